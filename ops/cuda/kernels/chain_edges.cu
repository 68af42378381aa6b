// From what each segment of a lane does to the state that crosses it (scan_edges.cu) to the states that
// enter the segments, in the order of the walk; and, against it, to the gradients of the states that
// leave them.
//
// The warps of a block share out the segments of a lane. Each finds what its own do together, then
// starts from what those before it do.
//
// Given to the compiler: STATES, rounded up to a power of two; LOG_A, as in scan.cuh; WARPS of a block,
// at most; DEPTH, the segments whose loads a thread has under way together.
#include "lanes.cuh"

// One number of the state of a lane: its way along the segments, in the order of the walk.
struct Chain {
  float *edges;         // of the first segment
  const float *totals;  // of the first segment
  int edge_step, total_step;
  float A_log2;

  // Segments from `first` on that are there before `end`: what they add, and how far they decay.
  DEVICE void load(float (&left)[DEPTH], float (&decay)[DEPTH], int first, int end) const {
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) {
      bool there = first + i < end;
      left[i] = there ? edges[(first + i) * edge_step] : 0.f;
      decay[i] = there ? totals[(first + i) * total_step] : 0.f;
    }
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) decay[i] = exp2_approx(decay[i] * A_log2);
  }

  // Leave what a run of segments does together.
  DEVICE void sum(float& to_state, float& to_decay, int first, int end) const {
    float state = 0.f, decay = 1.f;
#pragma unroll 1
    for (; first < end; first += DEPTH) {
      float lefts[DEPTH], decays[DEPTH];
      load(lefts, decays, first, end);
#pragma unroll
      for (int i = 0; i < DEPTH; ++i) {
        state = decays[i] * state + lefts[i];
        decay *= decays[i];
      }
    }
    to_state = state;
    to_decay = decay;
  }

  // Leave what enters each segment of a run in place of what leaves it.
  DEVICE void walk(float state, int first, int end) const {
#pragma unroll 1
    for (; first < end; first += DEPTH) {
      float lefts[DEPTH], decays[DEPTH];
      load(lefts, decays, first, end);
#pragma unroll
      for (int i = 0; i < DEPTH; ++i) {
        if (first + i < end) edges[(first + i) * edge_step] = state;
        state = decays[i] * state + lefts[i];
      }
    }
  }
};

// Grid: (lanes of all directions, for the states and then, if there are any, for the gradients;
// blocks of 32 numbers of a state). Shapes as in scan_edges.cu; A (E, states).
extern "C" __global__ void __launch_bounds__(WARPS * 32)
    chain_edges(const float* A, float* edges, const float* totals, Map map, int states) {
  SHARED(float, shared);
  int lanes = 0, k = 0;
  for (int d = 0; d < map.directions; ++d) lanes += map.lanes(d) / map.segments;
  bool adjoint = (int)blockIdx.x >= lanes;
  int lane = (int)blockIdx.x - adjoint * lanes;
  for (int rest = lane; rest >= map.lanes(k) / map.segments; ++k) {
    rest -= map.lanes(k) / map.segments;
  }
  int thread = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  int number = blockIdx.y * 32 + thread, channel = number / STATES, state = number % STATES;
  bool there = channel < map.channels;
  if (!there) channel = state = 0;  // of threads without a number of their own, which store nothing

  bool backwards = (map.reverse >> k & 1) != adjoint;
  int sense = backwards ? -1 : 1;
  long long first = (long long)lane * map.segments + (backwards ? map.segments - 1 : 0);
  float A_log2 = state < states ? A[channel * states + state] : 0.f;
  long long all = (long long)lanes * map.segments * map.channels * STATES;
  Chain chain = {edges + adjoint * all + (first * map.channels + channel) * STATES + state,
                 totals + first * map.channels + channel, sense * map.channels * STATES,
                 sense * map.channels, LOG2E * (LOG_A ? -exp2_approx(LOG2E * A_log2) : A_log2)};

  int run = (map.segments + warps - 1) / warps, begin = min(warp * run, map.segments);
  int end = there ? min(begin + run, map.segments) : begin;
  float* left = shared + thread;
  float* decays = left + warps * 32;
  chain.sum(left[warp * 32], decays[warp * 32], begin, end);
  __syncthreads();
  float entering = 0.f;
  for (int i = 0; i < warp; ++i) entering = decays[i * 32] * entering + left[i * 32];
  chain.walk(entering, begin, end);
}
