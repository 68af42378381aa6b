// Gradients of y[k] = silu(conv_k(x[k] * silu(gate))).
//
// At token t, a walk has the inputs from t - WAIT to t in its window. These are what output t of the
// direction along it sees, and what output t - WAIT of the opposite direction does, whose taps are
// the other way round: one walk serves both.
//
// Given to the compiler besides: BLOCKS that a multiprocessor has to have room for.
#include "projected_gradient.cuh"

// A thread's sums over all its lanes.
struct ConvSums {
  Taps weight;
  Channels bias;
};

// The last inputs of a walk, and what the taps that have seen them leave them of gradients.
struct Windows {
  Taps inputs[INPUTS] = {}, grads[INPUTS] = {};

  // The input of a token, number `i` of the stretch, enters.
  DEVICE void enter(Stretch& now, int i) {
#pragma unroll
    for (int s = 0; s < INPUTS; ++s) now.x[s][i].get(inputs[s][WAIT]);
    if (!HAS_GATE) return;
    Channels gate;
    now.gate[i].get(gate);
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      now.opening[i][c] = sigmoid(gate[c]);
#pragma unroll
      for (int s = 0; s < INPUTS; ++s) inputs[s][WAIT][c] *= gate[c] * now.opening[i][c];
    }
  }

  // The first one, which every tap has seen now, leaves, and with it its gradient.
  DEVICE void leave(Channels (&grad)[INPUTS]) {
#pragma unroll
    for (int s = 0; s < INPUTS; ++s) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        grad[s][c] = grads[s][0][c];
#pragma unroll
        for (int i = 0; i < WAIT; ++i) {
          inputs[s][i][c] = inputs[s][i + 1][c];
          grads[s][i][c] = grads[s][i + 1][c];
        }
        inputs[s][WAIT][c] = grads[s][WAIT][c] = 0.f;
      }
    }
  }
};

// Add what an output that sees the window gives to the gradients: of the direction along the walk, or
// the `OPPOSITE` one.
template <bool OPPOSITE>
DEVICE void add_output(Windows& windows, ConvSums& sums, const Held& dy, const Taps& taps,
                       const Channels& bias) {
  constexpr int INPUT = OPPOSITE ? INPUTS - 1 : 0;
  Channels grad;
  dy.get(grad);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    float linear = bias[c];
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
      linear += taps[OPPOSITE ? WAIT - i : i][c] * windows.inputs[INPUT][i][c];
    }
    grad[c] *= silu_grad(linear, sigmoid(linear));
    sums.bias[c] += grad[c];
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
      int tap = OPPOSITE ? WAIT - i : i;
      sums.weight[tap][c] += grad[c] * windows.inputs[INPUT][i][c];
      windows.grads[INPUT][i][c] += grad[c] * taps[tap][c];
    }
  }
}

// A walk over one lane, and WAIT steps further: until the last input has left.
template <bool ADDS>
struct LaneWalk {
  Reading reading;
  Leaving leaving;
  int length, start = 0;  // of the lane, and of the next stretch
  Stretch now;
  Windows windows;

  DEVICE LaneWalk(const Reading& reading, const Leaving& leaving, int length)
      : reading(reading), leaving(leaving), length(length) {}

  // The next stretch; returns whether the last input has left, which only one that is not WHOLE sees.
  template <bool WHOLE>
  DEVICE bool stretch(ProjectedWalk<COLUMNS>& projected, const ChannelPlace& place, const Taps& taps,
                      const Channels& bias, ConvSums& sums) {
    reading.template next<WHOLE, ADDS>(now, place);
    projected.template next<WHOLE>(length - start);
    projected.add_to(now);
    Channels grad[INPUTS];
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      int t = start + j - WAIT;  // the input that leaves
      if (!WHOLE && t >= length) return true;
      bool begun = j >= WAIT || t >= 0;
      windows.enter(now, WAIT + j);
      add_output<false>(windows, sums, now.dy[0][WAIT + j], taps, bias);
      if (SENSES > 1 && begun) add_output<true>(windows, sums, now.dy[SENSES - 1][j], taps, bias);
      windows.leave(grad);
      leaving.template next<ADDS>(grad, now, j, begun, place);
    }
    now.move_on();
    start += STEPS;
    return false;
  }

  // Have the last inputs leave.
  DEVICE void finish(const ChannelPlace& place, const Taps& taps, const Channels& bias,
                     ConvSums& sums) {
    Channels grad[INPUTS];
#pragma unroll
    for (int i = 0; i < WAIT; ++i) {
      int t = start + i - WAIT;
      if (SENSES > 1) add_output<true>(windows, sums, now.dy[SENSES - 1][i], taps, bias);
      windows.leave(grad);
      leaving.template next<ADDS>(grad, now, i, t >= 0 && t < length, place);
    }
  }

  // From the start of the lane to its end.
  DEVICE void whole(ProjectedWalk<COLUMNS>& projected, const ChannelPlace& place, const Taps& taps,
                    const Channels& bias, ConvSums& sums) {
    now.begin();
    while (start + STEPS <= length) stretch<true>(projected, place, taps, bias, sums);
    bool left = start < length && stretch<false>(projected, place, taps, bias, sums);
    if (!left) finish(place, taps, bias, sums);
  }
};

// Grid: (any number of blocks, which share out the lanes of the map's directions; groups of channels
// for each block's warps). A launch has several directions where they share nothing, or else one, and
// the opposite one with it if SENSES is two.
//
// Shapes: grad_y (K, tokens, E); x, gate, weight, bias as in the forward kernel; grad_x
// (K, tokens, E), or (tokens, E) if SHARED_X; grad_gate (tokens, E); `*_token` is the distance between
// tokens of these two. Partial sums, to be summed over their first axis: grad_weight
// (grid.x, E, TAPS), grad_bias (grid.x, E).
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    conv_backward(Conv conv, const NUMBER* grad_y, ProjectedGradient projected, ConvGradients grads, Map map,
                  Positions positions) {
  SHARED(ProjectedWalk<COLUMNS>::Shared, shared);
  ChannelPlace place = find_place(map);
  ProjectedWalk<COLUMNS> projected_walk(shared[threadIdx.x / 32], projected, place);
  Taps taps;
  Channels bias;
  load_taps(taps, bias, conv, place);
  ConvSums sums = {};
  int lanes = 0;
  for (int k = 0; k < map.directions; ++k) lanes += map.lanes(k);
  for (int unit = blockIdx.x; unit < lanes; unit += gridDim.x) {
    // What the launch before has left last is still in the cache.
    Lane lane = find_lane(map, positions.last_lanes_first ? lanes - 1 - unit : unit);
    Reading reading;
    Leaving leaving;
    begin_walk(reading, leaving, conv, grad_y, grads, map, lane, positions, place);
    projected_walk.begin(map, lane, positions);
    if (positions.adds) {
      LaneWalk<true> walk(reading, leaving, lane.length);
      walk.whole(projected_walk, place, taps, bias, sums);
    } else {
      LaneWalk<false> walk(reading, leaving, lane.length);
      walk.whole(projected_walk, place, taps, bias, sums);
    }
  }
  long long row = (long long)blockIdx.x * place.channels + place.channel;
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    if (!place.has_channel(c)) continue;
    if (HAS_BIAS) grads.bias[row + c] = sums.bias[c];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) grads.weight[(row + c) * TAPS + tap] = sums.weight[tap][c];
  }
}
