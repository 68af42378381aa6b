// Backward pass of the selective scan, in several directions (V2M, Eq. 9-15).
//
// Computes what kernels/scan_backward.py computes in Triton, for B and C that are each the constant
// 1 or one vector a token. Two things make it faster, which Triton cannot express: a thread owns a
// patch of channels times states (tile.cuh), and the states' history lies in shared memory.
//
// Given to the compiler, beside what scan.cuh needs: GRADIENT, the type of output gradients; SHARED_Y,
// whether one of them serves all directions.
#include "scan.cuh"

constexpr int SIDES = B_TOKEN + C_TOKEN;
constexpr int TILE_FLOATS = CHANNELS_HELD * STATES_HELD * 32;

struct alignas(4 * STATES_HELD) HeldStates {
  float at[STATES_HELD];
};

// The history: a slot for every pair of steps, in it a patch for every warp, in that the states of
// each channel that its threads hold.
constexpr int PATCH = CHANNELS_HELD * 32, SLOT = WARPS * PATCH;

struct Gradients {
  NUMBER *x, *delta;
  float *A, *B, *C, *D, *bias;
};

// Where a thread finds what a walk back needs besides, and leaves.
struct WalkBack {
  const GRADIENT* grad_y;
  NUMBER *grad_x, *grad_delta;

  DEVICE WalkBack(const GRADIENT* grad_outputs, const Gradients& grads, const Map& map,
                  const Lane& lane, const Place& place) {
    long long shared = lane.entry * map.channels + place.channel;
    long long own = lane.k * map.tokens() * map.channels + shared;
    grad_y = grad_outputs + (SHARED_Y ? shared : own);
    grad_x = grads.x + own + place.owned();
    grad_delta = grads.delta + own + place.owned();
  }
};

// What a step's way back reads besides, and the sums that it leaves.
struct StepBack {
  Channels dy, du, decay;
  States C, grad_B, grad_C;
};

// What is left of a thread's sums over everything that its block walks over.
struct Sums {
  Tile A;
  float D[CHANNELS_OWNED], bias[CHANNELS_OWNED];
};

DEVICE void load_step_back(StepBack& out, const Walk& walk, const WalkBack& ends,
                           const Place& place, int t) {
  place.load(out.dy, ends.grad_y + t * walk.map_step);
  load_side<C_TOKEN>(out.C, walk.C + t * walk.C_step, place);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) out.du[c] = out.decay[c] = 0.f;
#pragma unroll
  for (int n = 0; n < STATES_HELD; ++n) out.grad_B[n] = out.grad_C[n] = 0.f;
}

// Make a step one that changes nothing and leaves nothing.
DEVICE void skip_step(Step& now, StepBack& back) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) now.dt[c] = now.u[c] = back.dy[c] = 0.f;
}

// One state's way back over one step: `grad` is the gradient of `after`, and becomes `before`'s.
DEVICE void step_back(float& grad, float before, float after, float decay, float A_log2, int c,
                      int n, const Step& now, StepBack& back, float& A_sum) {
  grad += times_side<C_TOKEN>(back.dy[c], back.C[n]);
  if (C_TOKEN) back.grad_C[n] += back.dy[c] * after;
  if (B_TOKEN) back.grad_B[n] += grad * now.u[c];
  back.du[c] += times_side<B_TOKEN>(grad, now.B[n]);
  grad *= decay;
  float exponent = grad * before;
  back.decay[c] += exponent * A_log2;
  A_sum += exponent * now.dt[c];
}

// Both steps of a pair, the later one first, from the states before them.
DEVICE void pair_back(Tile& grad, Tile& A_sum, const Tile& A_log2, const HeldStates* history,
                      const Step (&now)[2], StepBack (&back)[2]) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    HeldStates start = history[c * 32];
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      float A = A_log2[c][n], before = start.at[n];
      float first = exp2_approx(now[0].dt[c] * A), second = exp2_approx(now[1].dt[c] * A);
      float between = first * before + times_side<B_TOKEN>(now[0].u[c], now[0].B[n]);
      float after = second * between + times_side<B_TOKEN>(now[1].u[c], now[1].B[n]);
      step_back(grad[c][n], between, after, second, A, c, n, now[1], back[1], A_sum[c][n]);
      step_back(grad[c][n], before, between, first, A, c, n, now[0], back[0], A_sum[c][n]);
    }
  }
}

// Sum a step's gradients over the states, and store those of its x and its time step.
DEVICE void store_step(const WalkBack& ends, int at, const Place& place, const Step& now,
                       StepBack& back, const Channels& skip, Sums& sums, bool there) {
  spread_sum<CHANNELS_HELD, STATE_LANES, 1>(back.du, place.lane);
  spread_sum<CHANNELS_HELD, STATE_LANES, 1>(back.decay, place.lane);
  int owned = place.owned();
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) {
    float x = pick(now.x, owned + i), dt = pick(now.dt, owned + i), dy = pick(back.dy, owned + i);
    float grad_x = back.du[i] * dt;
    float grad_delta = back.du[i] * x + back.decay[i] * LN2;
    if (HAS_D) {
      grad_x += pick(skip, owned + i) * dy;
      sums.D[i] += dy * x;
    }
    if (SOFTPLUS != SOFTPLUS_NONE) grad_delta *= softplus_grad(dt);
    if (HAS_BIAS && there) sums.bias[i] += grad_delta;
    if (there && place.has_channel(owned + i) && place.speaks()) {
      ends.grad_x[at + i] = from_float<NUMBER>(grad_x);
      ends.grad_delta[at + i] = from_float<NUMBER>(grad_delta);
    }
  }
}

// Sum one number a state over the warp's channels, and leave it where the block finds it.
DEVICE void stage_sums(float* stage, const Place& place, States& sums) {
  spread_sum<STATES_HELD, CHANNEL_LANES, STATE_LANES>(sums, place.lane);
  int state = place.state + owned_sum<STATES_HELD, CHANNEL_LANES, STATE_LANES>(place.lane);
  bool speaks = place.lane / STATE_LANES < STATES_HELD;  // others are left with the same
  if (speaks) stage[state] = sums[0];
}

// Sum what the warps have staged of a chunk, and store it by token.
DEVICE void store_staged(const Gradients& grads, const HeldStates* history, const Map& map,
                         const Walk& walk, int states, int first, int steps) {
  long long partial = (long long)blockIdx.y * map.directions * map.tokens();
  for (int i = threadIdx.x; i < steps * SIDES * STATES; i += WARPS * 32) {
    int state = i % STATES, side = i / STATES % SIDES, t = i / (STATES * SIDES);
    float sum = 0.f;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) {
      const HeldStates* patch = history + t / 2 * SLOT + warp * PATCH;
      sum += reinterpret_cast<const float*>(patch)[(t % 2 * SIDES + side) * STATES + state];
    }
    float* target = B_TOKEN && side == 0 ? grads.B : grads.C;
    long long token = walk.entry + (long long)(first + t) * walk.step;
    if (state < states) target[(partial + token) * states + state] = sum;
  }
}

// A thread's states in global memory, between the walk ahead and the way back.
DEVICE void keep(float* kept, const Tile& state, int lane) {
#pragma unroll
  for (int i = 0; i < CHANNELS_HELD * STATES_HELD; ++i) {
    kept[i * 32 + lane] = state[i / STATES_HELD][i % STATES_HELD];
  }
}

DEVICE void restore(Tile& state, const float* kept, int lane) {
#pragma unroll
  for (int i = 0; i < CHANNELS_HELD * STATES_HELD; ++i) {
    state[i / STATES_HELD][i % STATES_HELD] = kept[i * 32 + lane];
  }
}

// A warp's walks.
struct Warp {
  Place place;
  Parameters given;

  DEVICE Warp(const Scan& scan, const Map& map, int states)
      : place((blockIdx.y * WARPS + threadIdx.x / 32) * WARP_CHANNELS, map.channels, states),
        given(scan, place) {}

  // Leave the states at the start of every chunk in `kept`, from those at the start of the lane.
  DEVICE void walk_ahead(const Walk& walk, Tile& state, float* kept, int chunk, int chunks) const {
    keep(kept, state, place.lane);
    for (int c = 1; c < chunks; ++c) {
      for (int t = (c - 1) * chunk; t < c * chunk; ++t) {
        Step now;
        load_step(now, walk, place, given.bias, t);
        advance(state, given.A_log2, now);
      }
      keep(kept + c * TILE_FLOATS, state, place.lane);
    }
  }

  // Leave the states before every pair of steps in the pair's slot.
  DEVICE void fill_history(HeldStates* history, const Walk& walk, Tile& state, int first,
                           int pairs) const {
    for (int p = 0;; ++p) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        HeldStates held;
#pragma unroll
        for (int n = 0; n < STATES_HELD; ++n) held.at[n] = state[c][n];
        history[p * SLOT + c * 32 + place.lane] = held;
      }
      if (p == pairs - 1) return;
      Step now[2];
      load_step(now[0], walk, place, given.bias, first + 2 * p);
      load_step(now[1], walk, place, given.bias, first + 2 * p + 1);
      advance(state, given.A_log2, now[0]);
      advance(state, given.A_log2, now[1]);
    }
  }

  // The way back over a chunk. Its sums over channels stay in the slots, which are free by then.
  DEVICE void walk_back(HeldStates* history, const Walk& walk, const WalkBack& ends, Tile& grad,
                        Sums& sums, int first, int steps) const {
    for (int p = (steps - 1) / 2; p >= 0; --p) {
      HeldStates* slot = history + p * SLOT;
      bool paired = 2 * p + 1 < steps;
      int t[2] = {first + 2 * p, first + 2 * p + paired};
      Step now[2];
      StepBack back[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        load_step(now[j], walk, place, given.bias, t[j]);
        load_step_back(back[j], walk, ends, place, t[j]);
      }
      if (!paired) skip_step(now[1], back[1]);
      pair_back(grad, sums.A, given.A_log2, slot + place.lane, now, back);
      __syncwarp();
      float* stage = reinterpret_cast<float*>(slot);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (B_TOKEN) stage_sums(stage + j * SIDES * STATES, place, back[j].grad_B);
        if (C_TOKEN) stage_sums(stage + (j * SIDES + B_TOKEN) * STATES, place, back[j].grad_C);
        int at = t[j] * walk.map_step;
        store_step(ends, at, place, now[j], back[j], given.skip, sums, j == 0 || paired);
      }
    }
  }

  // The sums over everything, in this block's row of the partial sums.
  DEVICE void store_sums(const Gradients& grads, const Sums& sums) const {
    long long row = (long long)blockIdx.x * place.channels;
    store_tile(grads.A + row * place.states, sums.A, place);
#pragma unroll
    for (int i = 0; i < CHANNELS_OWNED; ++i) {
      int c = place.owned() + i;
      if (!place.has_channel(c) || !place.speaks()) continue;
      if (HAS_D) grads.D[row + place.channel + c] = sums.D[i];
      if (HAS_BIAS) grads.bias[row + place.channel + c] = sums.bias[i];
    }
  }
};

// Grid: (any number of blocks, which share out the lanes; groups of WARPS * WARP_CHANNELS
// channels). A lane is cut into chunks of at most `chunk` steps, for whose history the shared
// memory has (chunk + 1) / 2 slots.
//
// Shapes: grad_y (K, tokens, E), or (tokens, E) if SHARED_Y; incoming, the gradients of the states
// that leave each lane, like scan.start; gradients of maps like the maps. Partial sums, to be summed
// over their first axis: grads.A (grid.x, E, states), grads.D and grads.bias (grid.x, E), grads.B and
// grads.C (grid.y, K, tokens, states). carried: (grid.y, grid.x, WARPS, most_chunks, TILE_FLOATS),
// unless lanes are single chunks.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    scan_backward(Scan scan, const GRADIENT* grad_y, const float* incoming, Gradients grads,
                  Map map, float* carried, int states, int chunk, int most_chunks) {
  SHARED(HeldStates, shared_history);
  int number = threadIdx.x / 32;
  HeldStates* history = shared_history + number * PATCH;
  Warp warp(scan, map, states);
  long long block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
  float* kept = carried + (block * WARPS + number) * most_chunks * TILE_FLOATS;
  Sums sums = {};

  int lanes = 0;
  for (int k = 0; k < map.directions; ++k) lanes += map.lanes(k);
  for (int unit = blockIdx.x; unit < lanes; unit += gridDim.x) {
    Lane lane = find_lane(map, unit);
    Walk walk(scan, map, lane, warp.place);
    WalkBack ends(grad_y, grads, map, lane, warp.place);
    int chunks = (lane.length + chunk - 1) / chunk;
    Tile state = {}, grad = {};
    load_edge(state, scan.start, unit, warp.place);
    load_edge(grad, incoming, unit, warp.place);
    if (chunks > 1) warp.walk_ahead(walk, state, kept, chunk, chunks);
    for (int c = chunks - 1; c >= 0; --c) {
      int first = c * chunk, steps = min(chunk, lane.length - first);
      if (chunks > 1) restore(state, kept + c * TILE_FLOATS, warp.place.lane);
      warp.fill_history(history, walk, state, first, (steps + 1) / 2);
      warp.walk_back(history, walk, ends, grad, sums, first, steps);
      __syncthreads();
      store_staged(grads, shared_history, map, walk, states, first, steps);
      __syncthreads();
    }
  }
  warp.store_sums(grads, sums);
}
