// Gradients of y[k] = silu(conv_k(x[k] * silu(gate))), in several directions along one axis.
//
// Given to the compiler besides: BLOCKS that a multiprocessor has to have room for.
#include "conv.cuh"

// Steps that an input waits until every tap has seen it.
constexpr int WAIT = TAPS - 1;

struct ConvGradients {
  NUMBER *x, *gate;
  float *weight, *bias;
};

// A thread's sums over all its lanes.
struct ConvSums {
  Taps weight;
  Channels bias;
};

// What is under way of a stretch: the inputs of WAIT steps before it and of its own.
struct Stretch {
  Held x[WAIT + STEPS], gate[WAIT + STEPS];
  float opening[WAIT + STEPS][CHANNELS_HELD];  // sigmoid of the gate

  DEVICE void begin() {
#pragma unroll
    for (int i = 0; i < WAIT; ++i) {
      x[i].clear();
      gate[i].clear();
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) opening[i][c] = 0.f;
    }
  }

  // The end of a stretch is what goes before the next.
  DEVICE void move_on() {
#pragma unroll
    for (int i = 0; i < WAIT; ++i) {
      x[i] = x[i + STEPS];
      gate[i] = gate[i + STEPS];
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) opening[i][c] = opening[i + STEPS][c];
    }
  }
};

// The gradient in front of the SiLU, which ends the walk through a step's output.
DEVICE void through_silu(Channels& grad, const Taps& window, const Taps& taps,
                         const Channels& bias) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    float linear = bias[c];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) linear += taps[tap][c] * window[tap][c];
    grad[c] *= silu_grad(linear, sigmoid(linear));
  }
}

// Add a step's gradient to the taps', and to those of the inputs that its taps see.
DEVICE void through_taps(Taps& pending, ConvSums& sums, const Channels& grad, const Taps& window,
                         const Taps& taps) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    sums.bias[c] += grad[c];
#pragma unroll
    for (int tap = 0; tap < TAPS; ++tap) {
      sums.weight[tap][c] += grad[c] * window[tap][c];
      pending[tap][c] += grad[c] * taps[tap][c];
    }
  }
}

DEVICE void shift(Taps& values) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int tap = 0; tap + 1 < TAPS; ++tap) values[tap][c] = values[tap + 1][c];
    values[TAPS - 1][c] = 0.f;
  }
}

// Where a thread leaves the gradients of a lane's inputs, and finds what is there `again` to be added
// to.
struct Leaving {
  NUMBER *grad_x, *grad_gate;
  int step, length;
  bool again;

  DEVICE bool is_inside(int t) const { return t >= 0 && t < length; }

  DEVICE void load(Held& before_x, Held& before_gate, int t, const ChannelPlace& place) const {
    bool added = again && is_inside(t);
    if (SHARED_X) place.load(before_x, grad_x + t * step, added);
    if (HAS_GATE) place.load(before_gate, grad_gate + t * step, added);
  }

  // Store the gradient of token t, which its taps have left in `out`; its own x, gate and the gate's
  // opening are number `i` of the stretch.
  DEVICE void store(Channels& out, const Stretch& now, int i, const Held& before_x,
                    const Held& before_gate, int t, const ChannelPlace& place) const {
    Channels gate, x;
    if (HAS_GATE) {
      Channels to_gate;
      before_gate.get(to_gate);
      now.gate[i].get(gate);
      now.x[i].get(x);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        to_gate[c] += out[c] * x[c] * silu_grad(gate[c], now.opening[i][c]);
        out[c] *= gate[c] * now.opening[i][c];
      }
      place.store(grad_gate + t * step, to_gate, is_inside(t));
    }
    if (SHARED_X) {
      before_x.get(x);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) out[c] += x[c];
    }
    place.store(grad_x + t * step, out, is_inside(t));
  }
};

// A walk over one lane. `again`: what the directions share has been written, and is added to.
DEVICE void walk_lane(const Conv& conv, const NUMBER* grad_y, const ConvGradients& grads,
                      const Map& map, const Lane& lane, const ChannelPlace& place, bool again,
                      const Taps& taps, const Channels& bias, ConvSums& sums) {
  InputWalk walk(conv, map, lane, place);
  int step = lane.step * map.channels;
  long long shared = lane.entry * map.channels + place.channel;
  long long own = lane.k * map.tokens() * map.channels + shared;
  const NUMBER* upstream = grad_y + own;
  NUMBER* grad_gate = HAS_GATE ? grads.gate + shared : nullptr;
  Leaving leaving = {grads.x + (SHARED_X ? shared : own), grad_gate, step, lane.length, again};

  Stretch now;
  now.begin();
  Taps window = {}, pending = {};
  Held last_x[WAIT > 0 ? WAIT : 1], last_gate[WAIT > 0 ? WAIT : 1];
  int start = 0;
  for (; start < lane.length; start += STEPS) {
    Held dy[STEPS], before_x[STEPS], before_gate[STEPS];
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      int t = start + j;
      bool there = t < lane.length;
      place.load(now.x[WAIT + j], walk.x + t * walk.x_step, there);
      if (HAS_GATE) place.load(now.gate[WAIT + j], walk.gate + t * walk.gate_step, there);
      place.load(dy[j], upstream + t * step, there);
      leaving.load(before_x[j], before_gate[j], t - WAIT, place);
    }
    if (start + STEPS >= lane.length) {
#pragma unroll
      for (int i = 0; i < WAIT; ++i) {
        leaving.load(last_x[i], last_gate[i], start + STEPS + i - WAIT, place);
      }
    }
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      Channels gate, grad;
      now.x[WAIT + j].get(window[TAPS - 1]);
      if (HAS_GATE) {
        now.gate[WAIT + j].get(gate);
#pragma unroll
        for (int c = 0; c < CHANNELS_HELD; ++c) {
          now.opening[WAIT + j][c] = sigmoid(gate[c]);
          window[TAPS - 1][c] *= gate[c] * now.opening[WAIT + j][c];
        }
      }
      dy[j].get(grad);
      through_silu(grad, window, taps, bias);
      through_taps(pending, sums, grad, window, taps);
      // The input of WAIT steps ago has been seen by every tap now.
      leaving.store(pending[0], now, j, before_x[j], before_gate[j], start + j - WAIT, place);
      shift(window);
      shift(pending);
    }
    now.move_on();
  }
#pragma unroll
  for (int i = 0; i < WAIT; ++i) {
    leaving.store(pending[0], now, i, last_x[i], last_gate[i], start + i - WAIT, place);
    shift(pending);
  }
}

// Grid: (any number of blocks, which share out the lanes; groups of WARPS warps along the
// channels). All directions of the map walk along one axis. A warp walks along its lanes in all of
// them, so that what they share is added up in order.
//
// Shapes: grad_y (K, tokens, E); x, gate, weight, bias as in the forward kernel; grad_x
// (K, tokens, E), or (tokens, E) if SHARED_X; grad_gate (tokens, E). `numbers` has K's position
// among all directions for each of this launch's, four bits each. `adds`: whether launches for the
// other axis have written what is shared. Partial sums, to be summed over their first axis:
// grad_weight (grid.x, E, TAPS), grad_bias (grid.x, E).
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    conv_backward(Conv conv, const NUMBER* grad_y, ConvGradients grads, Map map, unsigned numbers,
                  int adds) {
  ChannelPlace place = find_place(map);
  Taps taps;
  Channels bias;
  load_taps(taps, bias, conv, place);
  ConvSums sums = {};
  for (int unit = blockIdx.x; unit < map.lanes(0); unit += gridDim.x) {
    for (int i = 0; i < map.directions; ++i) {
      Lane lane = find_lane(map, i * map.lanes(0) + unit);
      lane.k = numbers >> 4 * i & 15;
      walk_lane(conv, grad_y, grads, map, lane, place, adds || i > 0, taps, bias, sums);
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
