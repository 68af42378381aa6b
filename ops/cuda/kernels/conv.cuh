// What the kernels of the convolution share: taps, gates, and where a lane's input lies.
//
// Given to the compiler, beside what channels.cuh needs: NUMBER, the type of maps; TAPS; HAS_GATE;
// HAS_BIAS; WARPS, the most that a block has; but for the kernel that projects too, STEPS, tokens whose
// loads a thread has under way together.
#pragma once

#include "channels.cuh"
#include "lanes.cuh"

typedef Numbers<NUMBER, CHANNELS_HELD> Held;
typedef float Taps[TAPS][CHANNELS_HELD];

// `x_direction` is the distance between the directions' inputs; 0 where one serves all of them.
struct Conv {
  const NUMBER *x, *gate;
  const float *weight, *bias;
  int x_token, gate_token;
  long long x_direction;
};

// A warp's place: the group of channels that it works on.
DEVICE ChannelPlace find_place(const Map& map) {
  int warp = blockIdx.y * (blockDim.x / 32) + threadIdx.x / 32;
  return {(warp * 32 + (int)(threadIdx.x % 32)) * CHANNELS_HELD, map.channels};
}

DEVICE void load_taps(Taps& taps, Channels& bias, const Conv& conv, const ChannelPlace& place) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    bool there = place.has_channel(c);
    bias[c] = HAS_BIAS && there ? conv.bias[place.channel + c] : 0.f;
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) {
      taps[tap][c] = there ? conv.weight[(place.channel + c) * TAPS + tap] : 0.f;
    }
  }
}

// x * silu(gate).
template <int COUNT>
DEVICE void open_gate(float (&x)[COUNT], const float (&gate)[COUNT]) {
#pragma unroll
  for (int c = 0; c < COUNT; ++c) x[c] *= gate[c] * sigmoid(gate[c]);
}

// What a lane's last TAPS - 1 inputs, and the current one behind them, make of the output.
template <int COUNT>
DEVICE void convolve(float (&out)[COUNT], const float (*window)[COUNT], const float (*taps)[COUNT],
                     const float (&bias)[COUNT]) {
#pragma unroll
  for (int c = 0; c < COUNT; ++c) {
    float linear = bias[c];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) linear += taps[tap][c] * window[tap][c];
    out[c] = linear * sigmoid(linear);
  }
}

// Where a thread finds a lane's input, and how far its tokens are apart.
struct InputWalk {
  const NUMBER *x, *gate;
  int x_step, gate_step;

  DEVICE InputWalk(const Conv& conv, const Lane& lane, const ChannelPlace& place) {
    x = conv.x + lane.k * conv.x_direction + lane.entry * conv.x_token + place.channel;
    x_step = lane.step * conv.x_token;
    gate = HAS_GATE ? conv.gate + lane.entry * conv.gate_token + place.channel : nullptr;
    gate_step = lane.step * conv.gate_token;
  }
};
