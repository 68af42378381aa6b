// Backward pass of the selective scan, in several directions (V2M, Eq. 9-15).
//
// Computes what kernels/scan_backward.py computes in Triton, for B and C that are each the constant
// 1 or one vector a token. Two things make it faster, which Triton cannot express: a thread owns a
// patch of channels times states (tile.cuh), and the states' history lies in shared memory. While a
// warp walks back over a chunk of a lane, what it reads of the next is on its way there too.
//
// Given to the compiler, beside what scan.cuh needs: GRADIENT, the type of output gradients; SHARED_Y,
// whether one of them serves all directions; MAP_BYTES and SIDE_BYTES, which are copied at
// once of maps and output gradients, and of B and C.
#include "scan_source.cuh"

constexpr int TILE_FLOATS = CHANNELS_HELD * STATES_HELD * 32;

struct alignas(4 * STATES_HELD) HeldStates {
  float at[STATES_HELD];
};

// Sums over channels are of one number a state and step of a pair: the earlier and the later step's
// of the first state, then of the next. Threads have their states in an order of their own by halves
// only: that takes one more load from shared memory, quarters three.
constexpr int SIDE_SUMS = 2 * STATES_HELD;
constexpr int STATE_BITS = STATES_HELD / 2;

DEVICE int owned_side_sum(int lane) {
  return owned_sum<SIDE_SUMS, CHANNEL_LANES, STATE_LANES>(lane);
}
DEVICE int state_order(int lane) { return owned_side_sum(lane) / 2 & STATE_BITS; }

// A warp's history: a patch for every pair of steps, with the states of each channel that its threads
// hold. The end of a patch has room for sums over channels; both are counted in HeldStates.
constexpr int PATCH = CHANNELS_HELD * 32;
constexpr int SUMS = (2 * SIDES * STATES * 4 + 63) / 64 * 64 / (int)sizeof(HeldStates);

// A block's shared memory: the warps' histories, and their stages of a pair of steps each.
//
// If lanes are single chunks and begin with states of zero, `from_zero`, a first pair needs no patch
// but for its sums: a patch of zeros serves all warps. `history` is where its own would begin.
struct Memory {
  HeldStates *zeros, *history;
  Stage* stages;
  int distance;  // from the history of a warp to that of the next one
  bool from_zero;

  DEVICE Memory(HeldStates* memory, int slots, bool from_zero) : zeros(memory), from_zero(from_zero) {
    int spared = from_zero * (PATCH - SUMS);
    HeldStates* first = zeros + from_zero * PATCH;
    distance = slots * PATCH - spared;
    history = first - spared;
    stages = reinterpret_cast<Stage*>(first + WARPS * distance) + threadIdx.x / 32 * slots;
  }

  DEVICE void clear_zeros() const {
    if (!from_zero) return;
    for (int i = threadIdx.x; i < PATCH; i += WARPS * 32) zeros[i] = {};
    __syncthreads();
  }

  // The patch of a warp's pair p, and the states before that pair.
  DEVICE HeldStates* patch(int warp, int p) const { return history + warp * distance + p * PATCH; }
  DEVICE const HeldStates* before(const HeldStates* patch, int p) const {
    return from_zero && p == 0 ? zeros : patch;
  }
};

DEVICE float* sums_in(HeldStates* patch) {
  return reinterpret_cast<float*>(patch + PATCH - SUMS);
}

// A thread's walk ahead along a lane: where it finds its channels and states of the first token, and
// how far they are from token to token.
struct Walk {
  const NUMBER *x, *delta;
  const SIDE* B;
  int map_step, B_step;

  DEVICE Walk(const Scan& scan, const Map& map, const Cursor& at, int chunk, const Place& place) {
    int step = at.lane.step;
    long long entry = at.own(map) - (long long)(at.c * chunk) * step;
    map_step = step * place.channels;
    x = scan.x + entry * place.channels + place.channel;
    delta = scan.delta + entry * place.channels + place.channel;
    B_step = step * scan.B_token;
    B = B_TOKEN ? scan.B + entry * scan.B_token + place.state : nullptr;
  }
};

DEVICE void load_B(States& out, const SIDE* from, const Place& place) {
  if (!B_TOKEN) {
    load_ones(out, place);
  } else if (WHOLE_STATES) {
    read_numbers(out, from);
    reorder<STATE_BITS>(out, place.state_order);
  } else {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      out[n] = place.has_state(n) ? to_float(from[place.state_at(n)]) : 0.f;
    }
  }
}

DEVICE void load_step(Step& out, const Walk& walk, const Place& place, const Channels& bias,
                      int t) {
  place.load(out.x, walk.x + t * walk.map_step);
  place.load(out.dt, walk.delta + t * walk.map_step);
  reorder<CHANNEL_BITS>(out.x, place.owned());
  reorder<CHANNEL_BITS>(out.dt, place.owned());
  load_B(out.B, walk.B + t * walk.B_step, place);
  finish_step(out, bias);
}

// What a step's way back reads besides, and the sums that it leaves.
struct StepBack {
  Channels dy, du, decay;
  States C, grad_B, grad_C;
};

// Where a thread leaves the gradients of a step's x and time step.
struct Leaving {
  NUMBER *x, *delta;
  int step;

  // Of step t of a chunk.
  DEVICE Leaving(const Gradients& grads, const Map& map, const Cursor& chunk, int t,
                 const Place& place)
      : step(chunk.lane.step * place.channels) {
    long long own = chunk.own(map) * place.channels + place.channel + place.owned();
    x = grads.x + own + (long long)t * step;
    delta = grads.delta + own + (long long)t * step;
  }

  // To the step before.
  DEVICE void back() {
    move_on(x, -step);
    move_on(delta, -step);
  }
};

// What is left of a thread's sums over everything that its block walks over.
struct Sums {
  Tile A;
  float D[CHANNELS_OWNED], bias[CHANNELS_OWNED];
};

// Step j of a pair.
DEVICE void read_step(Step& out, const Stage& stage, const Place& place, const Channels& bias,
                      int j) {
  read_channels(out.x, &stage.x.at[j][place.in_warp()], place);
  read_channels(out.dt, &stage.delta.at[j][place.in_warp()], place);
  read_side<B_TOKEN, STATE_BITS>(out.B, stage.sides.at[j] + place.state, place);
  finish_step(out, bias);
}

// No sums yet.
DEVICE void clear(StepBack& back) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) back.du[c] = back.decay[c] = 0.f;
#pragma unroll
  for (int n = 0; n < STATES_HELD; ++n) back.grad_B[n] = back.grad_C[n] = 0.f;
}

DEVICE void read_step_back(StepBack& out, const Stage& stage, const Place& place, int j) {
  read_channels(out.dy, &stage.grad_y.at[j][place.in_warp()], place);
  read_side<C_TOKEN, STATE_BITS>(out.C, stage.sides.at[2 * (SIDES > 1) + j] + place.state, place);
  clear(out);
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

// Both steps of a pair, the later one first, from the states before them; or the first step alone,
// unless they are PAIRED.
template <bool PAIRED>
DEVICE void pair_back(Tile& grad, Tile& A_sum, const Tile& A_log2, const HeldStates* before,
                      const Step (&now)[2], StepBack (&back)[2]) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    HeldStates start = before[c * 32];
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      float A = A_log2[c][n], before = start.at[n];
      float first = exp2_approx(now[0].dt[c] * A);
      float between = first * before + times_side<B_TOKEN>(now[0].u[c], now[0].B[n]);
      if (PAIRED) {
        float second = exp2_approx(now[1].dt[c] * A);
        float after = second * between + times_side<B_TOKEN>(now[1].u[c], now[1].B[n]);
        step_back(grad[c][n], between, after, second, A, c, n, now[1], back[1], A_sum[c][n]);
      }
      step_back(grad[c][n], before, between, first, A, c, n, now[0], back[0], A_sum[c][n]);
    }
  }
}

// Sum a step's gradients over the states, and store those of its x and its time step.
DEVICE void store_step(const Leaving& to, const Place& place, const Step& now, StepBack& back,
                       const Channels& skip, Sums& sums) {
  sum_states(back.du, place);
  sum_states(back.decay, place);
  Channels grad_x, grad_delta;
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) {
    grad_x[i] = back.du[i] * now.dt[i];
    grad_delta[i] = back.du[i] * now.x[i] + back.decay[i] * LN2;
    if (HAS_D) {
      grad_x[i] += skip[i] * back.dy[i];
      sums.D[i] += back.dy[i] * now.x[i];
    }
    if (SOFTPLUS != SOFTPLUS_NONE) grad_delta[i] *= softplus_grad(now.dt[i]);
    if (HAS_BIAS) sums.bias[i] += grad_delta[i];
  }
  place.store_owned(to.x, grad_x);
  place.store_owned(to.delta, grad_delta);
}

// Sum one number a state and step of a pair over the warp's channels, and leave it where the block
// finds it.
DEVICE void stage_sums(float* stage, const Place& place, const States& first,
                       const States& second) {
  constexpr int LEFT = SIDE_SUMS > CHANNEL_LANES ? SIDE_SUMS / CHANNEL_LANES : 1;
  float sums[SIDE_SUMS];
#pragma unroll
  for (int i = 0; i < SIDE_SUMS; ++i) sums[i] = i % 2 ? second[i / 2] : first[i / 2];
  spread_sum<SIDE_SUMS, CHANNEL_LANES, STATE_LANES, 2 * STATE_BITS>(sums, place.lane);
  if (place.lane / STATE_LANES >= SIDE_SUMS) return;  // left with the same as others
  int owned = owned_side_sum(place.lane);
#pragma unroll
  for (int i = 0; i < LEFT; ++i) {
    int state = place.state + (owned + i) / 2;
    stage[(owned + i) % 2 * SIDES * STATES + state] = sums[i];
  }
}

// Sum what the warps have staged of a chunk, and store it by token.
DEVICE void store_staged(const Gradients& grads, const Memory& memory, const Map& map,
                         const Cursor& at, int states, int steps) {
  constexpr int AT_ONCE = WHOLE_STATES && STATES % 4 == 0 ? 4 : 1, PARTS = STATES / AT_ONCE;
  typedef Pack<float, AT_ONCE> Part;
  long long first = (blockIdx.y * map.directions + at.lane.k) * map.tokens() + at.token;
#pragma unroll 1
  for (int i = threadIdx.x; i < steps * SIDES * PARTS; i += WARPS * 32) {
    int part = i % PARTS, side = i / PARTS % SIDES, t = i / (PARTS * SIDES);
    Part sum = {};
    HeldStates* patch = memory.patch(0, t / 2);
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp, patch += memory.distance) {
      Part more = reinterpret_cast<Part*>(sums_in(patch))[(t % 2 * SIDES + side) * PARTS + part];
#pragma unroll
      for (int n = 0; n < AT_ONCE; ++n) sum.at[n] += more.at[n];
    }
    float* target = B_TOKEN && side == 0 ? grads.B : grads.C;
    long long token = first + (long long)t * at.lane.step;
    if (part * AT_ONCE >= states) continue;
    *reinterpret_cast<Part*>(target + token * states + part * AT_ONCE) = sum;
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
      : place((blockIdx.y * WARPS + threadIdx.x / 32) * WARP_CHANNELS, map.channels, states,
              state_order(threadIdx.x % 32)),
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

  DEVICE void keep_before(HeldStates* patch, const Tile& state) const {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      HeldStates held;
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) held.at[n] = state[c][n];
      patch[c * 32 + place.lane] = held;
    }
  }

  // Leave the states before every pair of steps in the pair's patch.
  DEVICE void fill_history(const Memory& memory, int first, int turn, Tile& state, int pairs) const {
    HeldStates* patch = memory.patch(threadIdx.x / 32, 0);
    if (!memory.from_zero) keep_before(patch, state);
    for (int i = first; --pairs > 0; i += turn) {
      Step now[2];
      read_step(now[0], memory.stages[i], place, given.bias, 0);
      read_step(now[1], memory.stages[i], place, given.bias, 1);
      advance(state, given.A_log2, now[0]);
      advance(state, given.A_log2, now[1]);
      patch += PATCH;
      keep_before(patch, state);
    }
  }

  // The way back over a pair, or over a single step, from the states before it. Its sums over channels stay in its patch,
  // which is free by then.
  template <bool PAIRED>
  DEVICE void walk_back(HeldStates* patch, const HeldStates* before, const Stage& stage, Leaving& to,
                        Tile& grad, Sums& sums) const {
    Step now[2];
    StepBack back[2];
#pragma unroll
    for (int j = 0; j <= PAIRED; ++j) {
      read_step(now[j], stage, place, given.bias, j);
      read_step_back(back[j], stage, place, j);
    }
    if (!PAIRED) clear(back[1]);
    pair_back<PAIRED>(grad, sums.A, given.A_log2, before + place.lane, now, back);
    __syncwarp();
    float* sides = sums_in(patch);
    if (B_TOKEN) stage_sums(sides, place, back[0].grad_B, back[1].grad_B);
    if (C_TOKEN) stage_sums(sides + B_TOKEN * STATES, place, back[0].grad_C, back[1].grad_C);
#pragma unroll
    for (int j = PAIRED; j >= 0; --j) {
      store_step(to, place, now[j], back[j], given.skip, sums);
      to.back();
    }
  }

  // The sums over everything, in this block's row of the partial sums.
  DEVICE void store_sums(const Gradients& grads, const Sums& sums) const {
    long long row = (long long)blockIdx.x * place.channels;
    Tile A;
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) {
        // The derivative of A by its logarithm is A.
        A[c][n] = sums.A[c][n] * (LOG_A ? given.A_log2[c][n] * LN2 : 1.f);
      }
    }
    store_tile(grads.A + row * place.states, A, place);
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
// channels). A lane is cut into chunks of at most `chunk` steps, for whose (chunk + 1) / 2 pairs there
// is shared memory.
//
// Shapes: grad_y (K, tokens, E), or (tokens, E) if SHARED_Y; incoming, the gradients of the states
// that leave each lane, like scan.start; gradients of maps like the maps. Partial sums, to be summed
// over their first axis: grads.A (grid.x, E, states), grads.D and grads.bias (grid.x, E), grads.B and
// grads.C (grid.y, K, tokens, states). carried: (grid.y, grid.x, WARPS, most_chunks, TILE_FLOATS),
// unless lanes are single chunks.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    scan_backward(Scan scan, const GRADIENT* grad_y, const float* incoming, Gradients grads,
                  Map map, float* carried, int states, int chunk, int most_chunks) {
  SHARED(HeldStates, shared);
  int number = threadIdx.x / 32, slots = (chunk + 1) / 2;
  int channel = (blockIdx.y * WARPS + number) * WARP_CHANNELS;
  Memory memory(shared, slots, most_chunks == 1 && scan.start == nullptr);
  Stage* stages = memory.stages;
  memory.clear_zeros();
  Warp warp(scan, map, states);
  Sums sums = {};

  int lanes = 0;
  for (int k = 0; k < map.directions; ++k) lanes += map.lanes(k);
  Cursor next(map, lanes, chunk);
  Source source(scan, grad_y, map.channels, channel, states);
  if (next.there(lanes)) source.find(map, next, chunk);
#pragma unroll 1
  for (int p = 0; p < slots; ++p) source.copy(stages[p]);
  Tile grad;
  // While the last pair of a chunk makes way for the first one of the next, pairs lie in turn from the
  // front and from the back.
  int first = 0, turn = 1;
  while (next.there(lanes)) {
    Cursor now = next;
    next.advance(map, lanes, chunk);
    Tile state;
    clear(state);
    bool whole = now.is_whole(chunk);
    long long block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
    float* kept = carried + (block * WARPS + number) * most_chunks * TILE_FLOATS;
    if (now.is_last(chunk)) {
      clear(grad);
      load_edge(state, scan.start, now.unit, warp.place);
      load_edge(grad, incoming, now.unit, warp.place);
      if (!whole) {
        Walk walk(scan, map, now, chunk, warp.place);
        warp.walk_ahead(walk, state, kept, chunk, now.c + 1);
      }
    }
    if (!whole) restore(state, kept + now.c * TILE_FLOATS, warp.place.lane);
    int steps = now.steps(chunk), pairs = (steps + 1) / 2;
    await_copies<1>();  // the last pair is not needed yet
    __syncwarp();
    warp.fill_history(memory, first, turn, state, pairs);
    await_copies<0>();
    source.finish();
    __syncwarp();
    if (next.there(lanes)) source.find(map, next, chunk);
    int p = slots - 1, i = first + p * turn;
    first = i;
#pragma unroll 1
    for (; p >= pairs; --p, i -= turn) source.copy(stages[i]);
    Leaving leaving(grads, map, now, steps - 1, warp.place);
    HeldStates* patch = memory.patch(number, p);
    if (steps % 2) {
      warp.walk_back<false>(patch, memory.before(patch, p), stages[i], leaving, grad, sums);
      source.copy(stages[i]);
      --p, i -= turn, patch -= PATCH;
    }
    for (; p >= 0; --p, i -= turn, patch -= PATCH) {
      warp.walk_back<true>(patch, memory.before(patch, p), stages[i], leaving, grad, sums);
      source.copy(stages[i]);
    }
    turn = -turn;
    __syncthreads();
    store_staged(grads, memory, map, now, states, steps);
    __syncthreads();
  }
  await_copies<0>();  // of zeros
  warp.store_sums(grads, sums);
}
