// Convolution, projections and scan of a channel's single state in one walk, along the lanes of one
// axis (V2M, Eq. 9-12): of the map, its outputs alone go through memory.
//
// A block walks along LANES neighbouring lanes, CHUNK tokens at a time. A thread owns two channels of
// a lane. It convolves their tokens and leaves them in shared memory; the block's warps project these
// on tensor cores to low-rank time steps and sides, and expand the time steps to all channels, which
// take the convolved tokens' place; then each thread scans its own channels. What it convolved it
// still has, and the next chunk's inputs are on their way.
//
// Given to the compiler, beside what conv.cuh needs (CHANNELS_HELD is 2, and there is no gate):
// CHANNELS, a multiple of 16; RANK; LANES, so many that CHANNELS / 2 * LANES is a multiple of 32;
// BLOCKS that a multiprocessor has to have room for; PROJECTS_INPUT, whether the side is B of the token
// and C is 1, or the other way round; SUMS; KEEPS; LOG_A; HAS_D.
#include "conv.cuh"
#include "matrix.cuh"

// What is done with so many tokens of a chunk is not kept apart by branches.
constexpr int TOGETHER = 4;
constexpr int CHUNK = 16, PAIRS = CHANNELS / 2, BEFORE = TAPS - 1;
// Steps of the products, and eights of their columns.
constexpr int CHANNEL_STEPS = CHANNELS / 16, OUTPUT_TILES = (RANK + 1 + 7) / 8;
constexpr int RANK_STEPS = (RANK + 15) / 16, CHANNEL_TILES = CHANNELS / 8;
// Numbers from row to row: 16 bytes more, so that a warp's words of eight rows are in all banks.
constexpr int TOKEN_ROW = CHANNELS + 8, RANK_ROW = RANK_STEPS * 16 + 8;

typedef Pack<unsigned, 2> Words;

// Shapes: x_proj (RANK + 1, E); dt_proj (E, RANK); dt_bias, A and D (E,); low_rank (K, tokens, RANK)
// and side (K, tokens), written if KEEPS; y (K, tokens, E), or (tokens, E) if SUMS.
struct Walked {
  const float *x_proj, *dt_proj, *dt_bias, *A, *D;
  NUMBER* low_rank;
  float* side;
  NUMBER* y;
};

// Words of B of both products, in the order in which threads load them; and a chunk of every lane:
// tokens as convolved, then their time steps.
struct Shared {
  Words project[OUTPUT_TILES][CHANNEL_STEPS][32];
  Words expand[CHANNEL_TILES][RANK_STEPS][32];
  Pack<float, 2> dt_bias[PAIRS];
  alignas(16) NUMBER tokens[LANES][CHUNK][TOKEN_ROW];
  alignas(16) NUMBER low_rank[LANES][CHUNK][RANK_ROW];
  float side[LANES][CHUNK];
  // Of a lane's chunk: its first token, counted through all directions; negative without one.
  long long first[LANES];
  int step[LANES];
};

// Words of B, whose columns are rows of `weight`: (columns, depth), zero outside.
DEVICE Words words_of(const float* weight, int columns, int depth, int column, int start) {
  Words words;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float two[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      int at = start + 8 * i + j;
      two[j] = column < columns && at < depth ? weight[column * depth + at] : 0.f;
    }
    words.at[i] = pack_two<NUMBER>(two[0], two[1]);
  }
  return words;
}

DEVICE void fill(Shared& shared, const Walked& given) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
  for (int i = warp; i < OUTPUT_TILES * CHANNEL_STEPS; i += WARPS) {
    int tile = i / CHANNEL_STEPS, step = i % CHANNEL_STEPS;
    shared.project[tile][step][lane] =
        words_of(given.x_proj, RANK + 1, CHANNELS, tile * 8 + g, step * 16 + 2 * t);
  }
  for (int i = warp; i < CHANNEL_TILES * RANK_STEPS; i += WARPS) {
    int tile = i / RANK_STEPS, step = i % RANK_STEPS;
    shared.expand[tile][step][lane] =
        words_of(given.dt_proj, CHANNELS, RANK, tile * 8 + g, step * 16 + 2 * t);
  }
  for (int i = threadIdx.x; i < CHANNELS; i += WARPS * 32) {
    shared.dt_bias[i / 2].at[i % 2] = given.dt_bias[i];
  }
  NUMBER* low_rank = &shared.low_rank[0][0][0];
  for (int i = threadIdx.x; i < LANES * CHUNK * RANK_ROW; i += WARPS * 32) {
    low_rank[i] = from_float<NUMBER>(0.f);
  }
}

// The words of A of a step of 16 columns, of a matrix whose rows are `row` numbers apart.
DEVICE void load_rows(unsigned (&a)[4], const NUMBER* matrix, int row, int step) {
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const NUMBER* two = matrix + (g + i % 2 * 8) * row + step * 16 + 2 * t + i / 2 * 8;
    a[i] = *reinterpret_cast<const unsigned*>(two);
  }
}

// Leave an output of a lane's token, of a chunk of `steps`.
DEVICE void leave_output(Shared& shared, const Walked& given, int lane, int token, int output,
                         float value, int steps) {
  long long number = shared.first[lane] + token * shared.step[lane];
  bool kept = KEEPS && shared.first[lane] >= 0 && token < steps;
  if (output < RANK) {
    NUMBER rounded = from_float<NUMBER>(value);
    shared.low_rank[lane][token][output] = rounded;
    if (kept) given.low_rank[number * RANK + output] = rounded;
  } else if (output == RANK) {
    shared.side[lane][token] = value;
    if (kept) given.side[number] = value;
  }
}

// Low-rank time steps and sides of all lanes' tokens.
DEVICE void project(Shared& shared, const Walked& given, int steps) {
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 1
  for (int task = threadIdx.x / 32; task < LANES * OUTPUT_TILES; task += WARPS) {
    int lane = task / OUTPUT_TILES, tile = task % OUTPUT_TILES;
    float sums[2][4] = {};
#pragma unroll 4
    for (int step = 0; step < CHANNEL_STEPS; ++step) {
      unsigned a[4];
      load_rows(a, &shared.tokens[lane][0][0], TOKEN_ROW, step);
      Words b = shared.project[tile][step][threadIdx.x % 32];
      multiply<NUMBER>(sums[step % 2], a, b.at[0], b.at[1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float value = sums[0][i] + sums[1][i];
      leave_output(shared, given, lane, g + i / 2 * 8, tile * 8 + 2 * t + i % 2, value, steps);
    }
  }
}

// Time steps of all channels of all lanes' tokens.
DEVICE void expand(Shared& shared) {
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 1
  for (int task = threadIdx.x / 32; task < LANES * CHANNEL_TILES; task += WARPS) {
    int lane = task / CHANNEL_TILES, tile = task % CHANNEL_TILES;
    Pack<float, 2> bias = shared.dt_bias[tile * 4 + t];
    float sums[4] = {bias.at[0], bias.at[1], bias.at[0], bias.at[1]};
#pragma unroll
    for (int step = 0; step < RANK_STEPS; ++step) {
      unsigned a[4];
      load_rows(a, &shared.low_rank[lane][0][0], RANK_ROW, step);
      Words b = shared.expand[tile][step][threadIdx.x % 32];
      multiply<NUMBER>(sums, a, b.at[0], b.at[1]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      unsigned two =
          pack_two<NUMBER>(rough_softplus(sums[2 * i]), rough_softplus(sums[2 * i + 1]));
      NUMBER* to = &shared.tokens[lane][g + 8 * i][tile * 8 + 2 * t];
      *reinterpret_cast<unsigned*>(to) = two;
    }
  }
}

// How lanes are shared out: LANES neighbours at a time are a unit, of one direction; or, if SUMS, of
// all directions in turn.
struct Work {
  const Map& map;
  int lanes, groups, units;

  DEVICE explicit Work(const Map& map) : map(map), lanes(map.lanes(0)) {
    groups = (lanes + LANES - 1) / LANES;
    units = SUMS ? groups : groups * map.directions;
  }
};

// A thread's chunk of its lane.
struct Cursor {
  int unit, turn, start, number;
  Lane lane;

  DEVICE explicit Cursor(const Work& work) : unit(blockIdx.x), turn(0), start(0) { find(work); }
  DEVICE bool goes_on(const Work& work) const { return unit < work.units; }
  DEVICE bool has_lane(const Work& work) const { return goes_on(work) && number < work.lanes; }
  DEVICE int steps() const { return min(CHUNK, lane.length - start); }
  DEVICE void advance(const Work& work) {
    start += CHUNK;
    if (start < lane.length) return;
    start = 0;
    if (!SUMS || ++turn == work.map.directions) {
      turn = 0;
      unit += gridDim.x;
    }
    find(work);
  }

 private:
  DEVICE void find(const Work& work) {
    int k = SUMS ? turn : unit / work.groups, group = SUMS ? unit : unit % work.groups;
    number = group * LANES + (int)threadIdx.x / PAIRS;
    bool there = has_lane(work);
    lane = find_lane(work.map, there ? k * work.lanes + number : 0);
  }
};

// A thread's two channels.
struct Mine {
  Taps taps;
  Channels bias, rate, skip;

  DEVICE Mine(const Conv& conv, const Walked& given, int channel) {
    ChannelPlace place = {channel, CHANNELS};
    load_taps(taps, bias, conv, place);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float A = given.A[channel + c];
      rate[c] = LOG_A ? -LOG2E * exp2_approx(LOG2E * A) : LOG2E * A;
      skip[c] = HAS_D ? given.D[channel + c] : 0.f;
    }
  }
};

// A chunk of a thread's channels, two to a word.
struct Chunk {
  unsigned at[CHUNK];

  // From `from` on, tokens `step` numbers apart.
  DEVICE void load(const NUMBER* from, int step, int steps) {
#pragma unroll
    for (int j = 0; j < CHUNK; ++j) {
      if (j < steps) at[j] = *reinterpret_cast<const unsigned*>(from);
      move_on(from, step);
    }
  }
};

DEVICE void load_inputs(Chunk& chunk, const Conv& conv, const Work& work, const Cursor& at,
                        unsigned numbers, int channel) {
  if (!at.has_lane(work)) return;
  const Lane& lane = at.lane;
  const NUMBER* x = conv.x + (numbers >> 4 * lane.k & 15) * conv.x_direction + channel;
  long long first = lane.entry + (long long)at.start * lane.step;
  chunk.load(x + first * conv.x_token, lane.step * conv.x_token, at.steps());
}

// Inputs before the chunk, the latest last.
typedef float History[TAPS][2];

// Convolve a chunk in place, and leave it in shared memory; up to TOGETHER tokens too many.
DEVICE void convolve_chunk(Chunk& chunk, History& window, const Mine& mine, NUMBER* tokens,
                           int steps) {
#pragma unroll
  for (int j = 0; j < CHUNK; ++j) {
    if (j % TOGETHER == 0 && j >= steps) break;
    Channels out;
    unpack_two<NUMBER>(window[BEFORE], chunk.at[j]);
    convolve(out, window, mine.taps, mine.bias);
#pragma unroll
    for (int i = 0; i < BEFORE; ++i) {
#pragma unroll
      for (int c = 0; c < 2; ++c) window[i][c] = window[i + 1][c];
    }
    unsigned two = pack_two<NUMBER>(out[0], out[1]);
    *reinterpret_cast<unsigned*>(tokens + j * TOKEN_ROW) = two;
    chunk.at[j] = two;
  }
}

// A step of a thread's states, and what it leaves.
DEVICE void walk_step(Channels& out, Channels& state, unsigned token, const NUMBER* time_steps,
                      float side, const Mine& mine) {
  Channels x, dt;
  unpack_two<NUMBER>(x, token);
  unpack_two<NUMBER>(dt, *reinterpret_cast<const unsigned*>(time_steps));
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float enters = dt[c] * x[c];
    if (PROJECTS_INPUT) enters *= side;
    state[c] = exp2_approx(dt[c] * mine.rate[c]) * state[c] + enters;
    out[c] = PROJECTS_INPUT ? state[c] : state[c] * side;
    if (HAS_D) out[c] += mine.skip[c] * x[c];
  }
}

// Grid: any number of blocks, which share out the lanes. All directions of the map walk along one
// axis. `numbers` has four bits for each of them, its place among all of the call. If SUMS, their
// outputs are added up in their order; `adds` says whether to what is there already.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    ssm_forward(Conv conv, Walked given, Map map, unsigned numbers, int adds) {
  SHARED(Shared, shared);
  int own = threadIdx.x / PAIRS, channel = threadIdx.x % PAIRS * 2;
  Work work(map);
  Mine mine(conv, given, channel);
  NUMBER* tokens = &shared->tokens[own][0][channel];
  Cursor next(work);
  Chunk chunk, coming;
  History window;
  Channels state;
  load_inputs(coming, conv, work, next, numbers, channel);
  fill(*shared, given);
  while (next.goes_on(work)) {
    Cursor now = next;
    const Lane& lane = now.lane;
    bool there = now.has_lane(work), again = SUMS && (adds || now.turn > 0);
    int steps = now.steps(), k = numbers >> 4 * lane.k & 15, y_step = lane.step * CHANNELS;
    long long first = lane.entry + (long long)now.start * lane.step;
    NUMBER* y = given.y + ((SUMS ? 0 : k * map.tokens()) + first) * CHANNELS + channel;
    Chunk before;
    if (again && there) before.load(y, y_step, steps);
    if (now.start == 0) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        state[c] = 0;
#pragma unroll
        for (int i = 0; i < BEFORE; ++i) window[i][c] = 0;
      }
    }
    if (channel == 0) {
      shared->first[own] = there ? k * map.tokens() + first : -1;
      shared->step[own] = lane.step;
    }
    chunk = coming;
    next.advance(work);
    convolve_chunk(chunk, window, mine, tokens, steps);
    load_inputs(coming, conv, work, next, numbers, channel);
    __syncthreads();
    project(*shared, given, steps);
    __syncthreads();
    expand(*shared);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < CHUNK; ++j) {
      if (j % TOGETHER == 0 && j >= steps) break;
      Channels out;
      walk_step(out, state, chunk.at[j], tokens + j * TOKEN_ROW, shared->side[own][j], mine);
      if (SUMS) {
        Channels earlier;
        unpack_two<NUMBER>(earlier, before.at[j]);
        out[0] += again ? earlier[0] : 0.f;
        out[1] += again ? earlier[1] : 0.f;
      }
      if (there && j < steps) *reinterpret_cast<unsigned*>(y) = pack_two<NUMBER>(out[0], out[1]);
      move_on(y, y_step);
    }
  }
}
