// Causal depthwise convolution and SiLU, in several directions, on a map that may be gated:
// y[k] = silu(conv_k(x[k] * silu(gate))) (V2M, Eq. 7-12).
#include "conv.cuh"

// A walk over one lane.
struct ConvWalk {
  InputWalk input;
  NUMBER* out;
  int out_step;
  Taps window = {};

  DEVICE ConvWalk(const Conv& conv, NUMBER* y, const Map& map, const Lane& lane,
                  const ChannelPlace& place)
      : input(conv, lane, place), out_step(lane.step * map.channels) {
    out = y + (lane.k * map.tokens() + lane.entry) * map.channels + place.channel;
  }

  // Walk over the tokens of a stretch that are there: all of its STEPS if it is WHOLE.
  template <bool WHOLE>
  DEVICE void stretch(int start, int tokens, const ChannelPlace& place, const Taps& taps,
                      const Channels& bias) {
    Held inputs[STEPS], gates[STEPS];
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      bool there = WHOLE || j < tokens;
      place.load(inputs[j], input.x + (start + j) * input.x_step, there);
      if (HAS_GATE) place.load(gates[j], input.gate + (start + j) * input.gate_step, there);
    }
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      if (!WHOLE && j >= tokens) return;
      Channels gate, result;
      inputs[j].get(window[TAPS - 1]);
      if (HAS_GATE) {
        gates[j].get(gate);
        open_gate(window[TAPS - 1], gate);
      }
      convolve(result, window, taps, bias);
      place.store(out + (start + j) * out_step, result);
#pragma unroll
      for (int i = 0; i + 1 < TAPS; ++i) {
#pragma unroll
        for (int c = 0; c < CHANNELS_HELD; ++c) window[i][c] = window[i + 1][c];
      }
    }
  }
};

// Threads that have no channels leave at once. So WHOLE_CHANNELS is for all that have all of theirs or
// none, and channels that fill no warp need no other kernel.
//
// Grid: (any number of blocks, which share out the lanes of all directions; groups of channels for each
// block's warps).
//
// Shapes: x (K, tokens, E), or (tokens, E) for all; gate (tokens, E); weight (E, TAPS); bias
// (E,); y (K, tokens, E). `*_token` is the distance between tokens.
extern "C" __global__ void __launch_bounds__(WARPS * 32)
    conv_forward(Conv conv, NUMBER* y, Map map) {
  ChannelPlace place = find_place(map);
  if (place.channel >= place.channels) return;
  Taps taps;
  Channels bias;
  load_taps(taps, bias, conv, place);
  int lanes = 0;
  for (int k = 0; k < map.directions; ++k) lanes += map.lanes(k);
  for (int unit = blockIdx.x; unit < lanes; unit += gridDim.x) {
    Lane lane = find_lane(map, unit);
    ConvWalk walk(conv, y, map, lane, place);
    int start = 0;
    for (; start + STEPS <= lane.length; start += STEPS) {
      walk.stretch<true>(start, STEPS, place, taps, bias);
    }
    if (start < lane.length) walk.stretch<false>(start, lane.length - start, place, taps, bias);
  }
}
