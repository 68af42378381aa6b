// What both passes of the selective scan share: its arguments, and a step ahead.
//
// Given to the compiler, beside what tile.cuh needs: NUMBER, the type of maps; SIDE, that of B and
// C; B_TOKEN and C_TOKEN, whether they are vectors (one a token) or the constant 1; LOG_A, whether A is
// the logarithm of what is meant, but for the sign; HAS_D; HAS_Z; HAS_BIAS;
// SOFTPLUS, one of the values below; WARPS, the most that a block has; BLOCKS of that size that a
// multiprocessor has to have room for.
#pragma once

#include "lanes.cuh"
#include "tile.cuh"

constexpr int SOFTPLUS_NONE = 0, SOFTPLUS_APPLY = 1, SOFTPLUS_APPLIED = 2;

// Shapes: x and delta (K, tokens, E); delta_bias and D (E,); A (E, states); B and C (K, tokens,
// states), whose tokens are `*_token` apart, like those of z (tokens, E), the gate of a single
// direction or of the sum over all; start (lanes, E, STATES), the states that enter each lane, or null for zero.
struct Scan {
  const NUMBER *x, *delta;
  const float *delta_bias, *A;
  const SIDE *B, *C;
  const float *D, *start;
  const NUMBER* z;
  int B_token, C_token, z_token;
};

// What the backward pass leaves: gradients of maps, and partial sums of those of the others.
struct Gradients {
  NUMBER *x, *delta, *z;
  float *A, *B, *C, *D, *bias;
};

// What a thread needs of the parameters, whichever lane it is on.
struct Parameters {
  Tile A_log2;
  Channels bias, skip;

  DEVICE Parameters(const Scan& scan, const Place& place) {
    load_tile(A_log2, scan.A, place.states, place, LOG2E);
    if (LOG_A) take_exponentials();
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      int channel = place.channel + place.channel_at(c);
      bool there = place.has_channel(place.channel_at(c));
      bias[c] = HAS_BIAS && there ? scan.delta_bias[channel] : 0.f;
      skip[c] = HAS_D && there ? scan.D[channel] : 0.f;
    }
  }

  DEVICE void take_exponentials() {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) A_log2[c][n] = -LOG2E * exp2_approx(A_log2[c][n]);
    }
  }
};

// What crosses the edge of a lane: the states or the gradients that enter it, or nothing.
DEVICE void load_edge(Tile& out, const float* edges, int unit, const Place& place) {
  if (edges == nullptr) return;
  load_tile(out, edges + (long long)unit * place.channels * STATES, STATES, place);
}

// What one step reads, and dt x.
struct Step {
  Channels x, dt, u;
  States B;
};

DEVICE void load_ones(States& out, const Place& place) {
#pragma unroll
  for (int n = 0; n < STATES_HELD; ++n) out[n] = WHOLE_STATES || place.has_state(n) ? 1.f : 0.f;
}

// The thread's states of one token's B or C, from where a warp has staged it, or of the constant 1;
// those that do not exist are zero. STATE_BITS are those that the states' order may have.
template <bool TOKEN, int STATE_BITS = 0>
DEVICE void read_side(States& out, const SIDE* from, const Place& place) {
  if (TOKEN) {
    read_ordered<STATE_BITS>(out, from, place.state_order);
  } else {
    load_ones(out, place);
  }
}

// value * side, where the side may be known to be 1.
template <bool TOKEN>
DEVICE float times_side(float value, float side) {
  return TOKEN || !WHOLE_STATES ? value * side : value;
}

// The time step of what has been loaded, and dt x.
DEVICE void finish_step(Step& now, const Channels& bias) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    if (HAS_BIAS && SOFTPLUS != SOFTPLUS_APPLIED) now.dt[c] += bias[c];
    if (SOFTPLUS == SOFTPLUS_APPLY) now.dt[c] = softplus(now.dt[c]);
    now.u[c] = now.dt[c] * now.x[c];
  }
}

// h = exp(dt A) h + dt x B.
DEVICE void advance(Tile& state, const Tile& A_log2, const Step& now) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      float decay = exp2_approx(now.dt[c] * A_log2[c][n]);
      state[c][n] = decay * state[c][n] + times_side<B_TOKEN>(now.u[c], now.B[n]);
    }
  }
}
