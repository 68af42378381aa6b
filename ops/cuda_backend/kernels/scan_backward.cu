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
#include "scan.cuh"
#include "stage.cuh"

constexpr int SIDES = B_TOKEN + C_TOKEN;
constexpr int TILE_FLOATS = CHANNELS_HELD * STATES_HELD * 32;

struct alignas(4 * STATES_HELD) HeldStates {
  float at[STATES_HELD];
};

// The history: a slot for every pair of steps, in it a patch for every warp, in that the states of
// each channel that its threads hold.
constexpr int PATCH = CHANNELS_HELD * 32, SLOT = WARPS * PATCH;

// What a warp reads of a pair of steps: B's tokens are followed by C's.
struct Stage {
  Staged<NUMBER, 2, WARP_CHANNELS> x, delta;
  Staged<GRADIENT, 2, WARP_CHANNELS> grad_y;
  Staged<SIDE, 2 * (SIDES > 0 ? SIDES : 1), STATES> sides;
};

struct Gradients {
  NUMBER *x, *delta;
  float *A, *B, *C, *D, *bias;
};

// Where a thread leaves what a walk back finds.
struct WalkBack {
  NUMBER *grad_x, *grad_delta;

  DEVICE WalkBack(const Gradients& grads, const Map& map, const Lane& lane, const Place& place) {
    long long token = lane.k * map.tokens() + lane.entry;
    long long own = token * map.channels + place.channel + place.owned();
    grad_x = grads.x + own;
    grad_delta = grads.delta + own;
  }
};

// A block's position on its way along the lanes, each of which it walks over in chunks of `chunk`
// steps, the last one first.
struct Cursor {
  int unit, chunks, c;
  Lane lane;

  DEVICE Cursor(const Map& map, int lanes, int chunk) : unit(blockIdx.x) {
    find(map, lanes, chunk);
  }

  DEVICE bool there(int lanes) const { return unit < lanes; }
  DEVICE int steps(int chunk) const { return min(chunk, lane.length - c * chunk); }

  DEVICE void find(const Map& map, int lanes, int chunk) {
    if (!there(lanes)) return;
    lane = find_lane(map, unit);
    chunks = (lane.length + chunk - 1) / chunk;
    c = chunks - 1;
  }

  // On to the next chunk.
  DEVICE void advance(const Map& map, int lanes, int chunk) {
    if (--c >= 0) return;
    unit += gridDim.x;
    find(map, lanes, chunk);
  }
};

// Two rows of numbers, a pair of steps, each of which a warp copies by `chunks` of BYTES.
template <int BYTES>
struct Rows {
  const char* from;
  long long step;  // bytes from step to step
  int chunks, there;

  template <typename T>
  DEVICE static Rows of(const T* first, long long distance, int columns, int numbers) {
    constexpr int SIZE = sizeof(T);
    return {reinterpret_cast<const char*>(first), distance * SIZE, columns * SIZE / BYTES,
            numbers * SIZE / BYTES};
  }
};

// What a thread copies of each pair of steps of a chunk of a lane: CHUNKS of BYTES are copied by the
// warp, one after the other.
template <int BYTES, int CHUNKS>
struct Share {
  static constexpr int COUNT = CHUNKS > 0 ? (CHUNKS + 31) / 32 : 1;
  const char* from[COUNT];
  int step[COUNT];
  bool second[COUNT], there[COUNT];

  // Go on with the thread's share where `rows` begin in the warp's: at chunk `first`.
  DEVICE void take(const Rows<BYTES>& rows, int first) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      int chunk = (int)threadIdx.x % 32 + 32 * i - first;
      if (chunk < 0 || chunk >= 2 * rows.chunks) continue;
      int column = chunk % rows.chunks;
      second[i] = chunk >= rows.chunks;
      there[i] = WHOLE_CHANNELS && WHOLE_STATES ? true : column < rows.there;
      step[i] = (int)rows.step;
      from[i] = rows.from + (second[i] ? rows.step : 0) + column * BYTES;
    }
  }

  // Begin to copy the pair of steps t and t + 1, out of `steps`; zeros in place of one that is not
  // there.
  DEVICE void copy(void* to, int t, int steps) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      int chunk = (int)threadIdx.x % 32 + 32 * i;
      const char* source = from[i] + (long long)t * step[i];
      // Whatever the numbers are, two bytes are a bfloat16, and zeros are zero.
      copy_chunk<BYTES>(reinterpret_cast<bfloat16*>(to) + chunk * (BYTES / 2),
                        reinterpret_cast<const bfloat16*>(source), chunk < CHUNKS && t < steps,
                        there[i] && t + second[i] < steps);
    }
  }
};

// Where a thread finds what it copies of a chunk of a lane.
struct Source {
  static constexpr int MAP = 2 * WARP_CHANNELS * sizeof(NUMBER) / MAP_BYTES;
  static constexpr int GRADIENT_MAP = 2 * WARP_CHANNELS * sizeof(GRADIENT) / MAP_BYTES;
  static constexpr int SIDE_ROWS = 2 * STATES * sizeof(SIDE) / SIDE_BYTES;
  Share<MAP_BYTES, 2 * MAP + GRADIENT_MAP> maps;
  Share<SIDE_BYTES, SIDES * SIDE_ROWS> sides;
  int steps;

  DEVICE Source(const Scan& scan, const GRADIENT* grad_y, const Map& map, const Cursor& at,
                int chunk, int channel, int states)
      : steps(at.steps(chunk)) {
    typedef Rows<MAP_BYTES> Maps;
    typedef Rows<SIDE_BYTES> Sides;
    const Lane& lane = at.lane;
    long long shared = lane.entry + (long long)(at.c * chunk) * lane.step;
    long long own = lane.k * map.tokens() + shared;
    long long first = own * map.channels + channel, distance = (long long)lane.step * map.channels;
    long long first_y = (SHARED_Y ? shared : own) * map.channels + channel;
    int channels = map.channels - channel;
    maps.take(Maps::of(scan.x + first, distance, WARP_CHANNELS, channels), 0);
    maps.take(Maps::of(scan.delta + first, distance, WARP_CHANNELS, channels), MAP);
    maps.take(Maps::of(grad_y + first_y, distance, WARP_CHANNELS, channels), 2 * MAP);
    if (B_TOKEN) {
      long long step = (long long)lane.step * scan.B_token;
      sides.take(Sides::of(scan.B + own * scan.B_token, step, STATES, states), 0);
    }
    if (C_TOKEN) {
      long long step = (long long)lane.step * scan.C_token;
      sides.take(Sides::of(scan.C + own * scan.C_token, step, STATES, states),
                 B_TOKEN * SIDE_ROWS);
    }
  }

  DEVICE void copy(Stage& stage, int pair) const {
    maps.copy(&stage.x, 2 * pair, steps);
    if (SIDES > 0) sides.copy(&stage.sides, 2 * pair, steps);
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

// Step j of a pair.
DEVICE void read_step(Step& out, const Stage& stage, const Place& place, const Channels& bias,
                      int j) {
  read_numbers(out.x, &stage.x.at[j][place.in_warp()]);
  read_numbers(out.dt, &stage.delta.at[j][place.in_warp()]);
  read_side<B_TOKEN>(out.B, stage.sides.at[j] + place.state, place);
  finish_step(out, bias);
}

DEVICE void read_step_back(StepBack& out, const Stage& stage, const Place& place, int j) {
  read_numbers(out.dy, &stage.grad_y.at[j][place.in_warp()]);
  read_side<C_TOKEN>(out.C, stage.sides.at[2 * (SIDES > 1) + j] + place.state, place);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) out.du[c] = out.decay[c] = 0.f;
#pragma unroll
  for (int n = 0; n < STATES_HELD; ++n) out.grad_B[n] = out.grad_C[n] = 0.f;
}

// Whether zeros in place of a step are one that changes nothing and leaves nothing.
constexpr bool ZEROS_SKIP =
    SOFTPLUS == SOFTPLUS_APPLIED || (SOFTPLUS == SOFTPLUS_NONE && !HAS_BIAS);

// Make a step such a one.
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
  Channels grad_x, grad_delta;
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) {
    float x = pick(now.x, owned + i), dt = pick(now.dt, owned + i), dy = pick(back.dy, owned + i);
    grad_x[i] = back.du[i] * dt;
    grad_delta[i] = back.du[i] * x + back.decay[i] * LN2;
    if (HAS_D) {
      grad_x[i] += pick(skip, owned + i) * dy;
      sums.D[i] += dy * x;
    }
    if (SOFTPLUS != SOFTPLUS_NONE) grad_delta[i] *= softplus_grad(dt);
    if (HAS_BIAS && there) sums.bias[i] += grad_delta[i];
  }
  if (!there) return;
  place.store_owned(ends.grad_x + at, grad_x);
  place.store_owned(ends.grad_delta + at, grad_delta);
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

// Where a warp's pairs of steps lie: while the last one of a chunk makes way for the first one of the
// next, they lie in turn from the front and from the back.
struct Stages {
  Stage* stages;
  int count;
  bool backward;

  DEVICE int place(int pair) const { return backward ? count - 1 - pair : pair; }
  DEVICE const Stage& of(int pair) const { return stages[place(pair)]; }
};

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
  DEVICE void fill_history(HeldStates* history, const Stages& stages, Tile& state,
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
      read_step(now[0], stages.of(p), place, given.bias, 0);
      read_step(now[1], stages.of(p), place, given.bias, 1);
      advance(state, given.A_log2, now[0]);
      advance(state, given.A_log2, now[1]);
    }
  }

  // The way back over a pair. Its sums over channels stay in the slot, which is free by then.
  DEVICE void walk_back(HeldStates* slot, const Stage& stage, const Walk& walk,
                        const WalkBack& ends, Tile& grad, Sums& sums, int first,
                        bool paired) const {
    Step now[2];
    StepBack back[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      read_step(now[j], stage, place, given.bias, j);
      read_step_back(back[j], stage, place, j);
    }
    if (!ZEROS_SKIP && !paired) skip_step(now[1], back[1]);
    pair_back(grad, sums.A, given.A_log2, slot + place.lane, now, back);
    __syncwarp();
    float* sides = reinterpret_cast<float*>(slot);
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      if (B_TOKEN) stage_sums(sides + j * SIDES * STATES, place, back[j].grad_B);
      if (C_TOKEN) stage_sums(sides + (j * SIDES + B_TOKEN) * STATES, place, back[j].grad_C);
      int at = (first + j * paired) * walk.map_step;
      store_step(ends, at, place, now[j], back[j], given.skip, sums, j == 0 || paired);
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
// channels). A lane is cut into chunks of at most `chunk` steps, for whose (chunk + 1) / 2 pairs the
// shared memory has slots of history, then each warp's stages.
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
  int number = threadIdx.x / 32, slots = (chunk + 1) / 2;
  int channel = (blockIdx.y * WARPS + number) * WARP_CHANNELS;
  HeldStates* history = shared_history + number * PATCH;
  Stages stages = {reinterpret_cast<Stage*>(shared_history + slots * SLOT) + number * slots, slots,
                   false};
  Warp warp(scan, map, states);
  Sums sums = {};

  int lanes = 0;
  for (int k = 0; k < map.directions; ++k) lanes += map.lanes(k);
  Cursor next(map, lanes, chunk);
  if (next.there(lanes)) {
    Source source(scan, grad_y, map, next, chunk, channel, states);
    for (int p = 0; p < slots; ++p) {
      if (p == slots - 1) commit_copies();
      source.copy(stages.stages[p], p);
    }
  }
  commit_copies();
  Tile grad;
  for (; next.there(lanes); stages.backward = !stages.backward) {
    Cursor now = next;
    next.advance(map, lanes, chunk);
    Walk walk(scan, map, now.lane, warp.place);
    WalkBack ends(grads, map, now.lane, warp.place);
    Tile state;
    clear(state);
    bool whole = now.chunks == 1;
    long long block = (long long)blockIdx.y * gridDim.x + blockIdx.x;
    float* kept = carried + (block * WARPS + number) * most_chunks * TILE_FLOATS;
    if (now.c == now.chunks - 1) {
      clear(grad);
      load_edge(state, scan.start, now.unit, warp.place);
      load_edge(grad, incoming, now.unit, warp.place);
      if (!whole) warp.walk_ahead(walk, state, kept, chunk, now.chunks);
    }
    if (!whole) restore(state, kept + now.c * TILE_FLOATS, warp.place.lane);
    int first = now.c * chunk, steps = now.steps(chunk), pairs = (steps + 1) / 2;
    await_copies<1>();  // the last pair is not needed yet
    __syncwarp();
    warp.fill_history(history, stages, state, pairs);
    await_copies<0>();
    __syncwarp();
    bool more = next.there(lanes);
    Source source(scan, grad_y, map, more ? next : now, chunk, channel, states);
    for (int p = slots - 1; p >= 0; --p) {
      Stage& stage = stages.stages[stages.place(p)];
      if (p < pairs) {
        HeldStates* slot = history + p * SLOT;
        bool paired = 2 * p + 1 < steps;
        warp.walk_back(slot, stage, walk, ends, grad, sums, first + 2 * p, paired);
      }
      if (p == 0) commit_copies();
      if (more) source.copy(stage, slots - 1 - p);
    }
    commit_copies();
    __syncthreads();
    store_staged(grads, shared_history, map, walk, states, first, steps);
    __syncthreads();
  }
  warp.store_sums(grads, sums);
}
