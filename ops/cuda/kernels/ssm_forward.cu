// Convolution, projections and scan of a channel's single state in one walk, along the lanes of one
// axis (V2M, Eq. 9-12): of the map, its outputs alone go through memory.
//
// A block walks along LANES neighbouring lanes, CHUNK tokens at a time. A thread owns two channels of
// a lane. It convolves their tokens and leaves them in shared memory; the block's warps project these
// on tensor cores to low-rank time steps and sides, and expand the time steps to all channels; then
// each thread scans its own channels. Meanwhile the next chunk's inputs are on their way.
//
// Given to the compiler, beside what conv.cuh needs (CHANNELS_HELD is 2, and there is no gate):
// CHANNELS, a multiple of 32; RANK; LANES, where CHANNELS / 2 * LANES is a multiple of 32; BLOCKS
// that a multiprocessor has to have room for; PROJECTS_INPUT, whether the side is B of the token and
// C is 1, or the other way round; SUMS; KEEPS; LOG_A; HAS_D.
#include "conv.cuh"
#include "matrix.cuh"

// Tokens between which there is no branch, so that the compiler can interleave what is done with them;
// and tiles of columns that a warp expands at once.
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

// Words of B of both products, in the order in which threads load them; and a chunk of every lane,
// as convolved, and its time steps.
struct Shared {
  Words project[OUTPUT_TILES][CHANNEL_STEPS][32];
  Words expand[CHANNEL_TILES][RANK_STEPS][32];
  alignas(16) NUMBER tokens[LANES][CHUNK][TOKEN_ROW];
  alignas(16) NUMBER time_steps[LANES][CHUNK][TOKEN_ROW];
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
#pragma unroll 4
  for (int i = warp; i < OUTPUT_TILES * CHANNEL_STEPS; i += WARPS) {
    int tile = i / CHANNEL_STEPS, step = i % CHANNEL_STEPS;
    shared.project[tile][step][lane] =
        words_of(given.x_proj, RANK + 1, CHANNELS, tile * 8 + g, step * 16 + 2 * t);
  }
#pragma unroll 4
  for (int i = warp; i < CHANNEL_TILES * RANK_STEPS; i += WARPS) {
    int tile = i / RANK_STEPS, step = i % RANK_STEPS;
    shared.expand[tile][step][lane] =
        words_of(given.dt_proj, CHANNELS, RANK, tile * 8 + g, step * 16 + 2 * t);
  }
  NUMBER* low_rank = &shared.low_rank[0][0][0];
  for (int i = threadIdx.x; i < LANES * CHUNK * RANK_ROW; i += WARPS * 32) {
    low_rank[i] = from_float<NUMBER>(0.f);
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
      load_words(a, &shared.tokens[lane][0][step * 16], TOKEN_ROW);
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
DEVICE void expand(Shared& shared, const Walked& given) {
  typedef Pack<float, 2> Two;
  const Two* biases = reinterpret_cast<const Two*>(given.dt_bias);
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 1
  for (int task = threadIdx.x / 32; task < LANES * CHANNEL_TILES / TOGETHER; task += WARPS) {
    int first = task * TOGETHER, lane = first / CHANNEL_TILES, tile = first % CHANNEL_TILES;
    unsigned a[RANK_STEPS][4];
#pragma unroll
    for (int step = 0; step < RANK_STEPS; ++step) {
      load_words(a[step], &shared.low_rank[lane][0][step * 16], RANK_ROW);
    }
    NUMBER* to = &shared.time_steps[lane][g][tile * 8 + 2 * t];
#pragma unroll
    for (int i = 0; i < TOGETHER; ++i) {
      Two bias = biases[(tile + i) * 4 + t];
      float sums[4] = {bias.at[0], bias.at[1], bias.at[0], bias.at[1]};
#pragma unroll
      for (int step = 0; step < RANK_STEPS; ++step) {
        Words b = shared.expand[tile + i][step][threadIdx.x % 32];
        multiply<NUMBER>(sums, a[step], b.at[0], b.at[1]);
      }
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const float* two = sums + 2 * row;
        *reinterpret_cast<unsigned*>(to + row * 8 * TOKEN_ROW + i * 8) =
            pack_two<NUMBER>(rough_softplus(two[0]), rough_softplus(two[1]));
      }
    }
  }
}

// How lanes are shared out: LANES neighbours at a time are a unit, of the direction of a row of
// blocks; or, if SUMS, of all directions in turn.
struct Work {
  int lanes, units, length, step;

  DEVICE explicit Work(const Map& map)
      : lanes(map.lanes(0)),
        units((lanes + LANES - 1) / LANES),
        length(map.length(0)),
        step(map.is_along_h(0) ? map.width : 1) {}

  // The first token of a lane, as its number among all.
  DEVICE long long start(const Map& map, int lane) const {
    if (step == 1) return (long long)lane * length;
    return (long long)(lane / step) * length * step + lane % step;
  }
};

// A thread's chunk of its lane: its first token, and how far the next one is.
struct Cursor {
  int unit, k, start, step;
  bool there;
  long long first;

  DEVICE Cursor(const Work& work, const Map& map)
      : unit(blockIdx.x), k(SUMS ? 0 : blockIdx.y), start(0) {
    find(work, map);
  }
  DEVICE bool goes_on(const Work& work) const { return unit < work.units; }
  DEVICE int steps(const Work& work) const { return min(CHUNK, work.length - start); }
  DEVICE void advance(const Work& work, const Map& map) {
    start += CHUNK;
    first += CHUNK * step;
    if (start < work.length) return;
    start = 0;
    if (!SUMS || ++k == map.directions) {
      unit += gridDim.x;
      if (SUMS) k = 0;
    }
    find(work, map);
  }

 private:
  DEVICE void find(const Work& work, const Map& map) {
    int lane = unit * LANES + (int)threadIdx.x / PAIRS;
    bool reverse = map.reverse >> k & 1;
    there = lane < work.lanes;
    step = reverse ? -work.step : work.step;
    first = work.start(map, there ? lane : 0) + (reverse ? (work.length - 1) * work.step : 0);
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
  if (!at.there) return;
  const NUMBER* x = conv.x + (numbers >> 4 * at.k & 15) * conv.x_direction + channel;
  chunk.load(x + at.first * conv.x_token, at.step * conv.x_token, at.steps(work));
}

// Inputs before the chunk, the latest last.
typedef float History[TAPS][2];

// Convolve a chunk into shared memory; up to TOGETHER tokens too many.
DEVICE void convolve_chunk(NUMBER* tokens, const Chunk& chunk, History& window, const Mine& mine,
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
    *reinterpret_cast<unsigned*>(tokens + j * TOKEN_ROW) = pack_two<NUMBER>(out[0], out[1]);
  }
}

// A step of a thread's states, and what it leaves.
DEVICE void walk_step(Channels& out, Channels& state, const NUMBER* token, const NUMBER* time_step,
                      float side, const Mine& mine) {
  Channels x, dt;
  unpack_two<NUMBER>(x, *reinterpret_cast<const unsigned*>(token));
  unpack_two<NUMBER>(dt, *reinterpret_cast<const unsigned*>(time_step));
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float enters = dt[c] * x[c];
    if (PROJECTS_INPUT) enters *= side;
    state[c] = exp2_approx(dt[c] * mine.rate[c]) * state[c] + enters;
    out[c] = PROJECTS_INPUT ? state[c] : state[c] * side;
    if (HAS_D) out[c] += mine.skip[c] * x[c];
  }
}

// Grid: (any number of blocks, which share out the lanes; directions, or 1 if SUMS). All directions of
// the map walk along one axis. `numbers` has four bits for each of them, its place among all of the
// call. If SUMS, their outputs are added up in their order; `adds` says whether to what is there
// already.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    ssm_forward(Conv conv, Walked given, Map map, unsigned numbers, int adds) {
  SHARED(Shared, shared);
  int own = threadIdx.x / PAIRS, channel = threadIdx.x % PAIRS * 2;
  Work work(map);
  Mine mine(conv, given, channel);
  NUMBER* tokens = &shared->tokens[own][0][channel];
  const NUMBER* time_steps = &shared->time_steps[own][0][channel];
  Cursor now(work, map);
  Chunk inputs, before;
  History window;
  Channels state;
  load_inputs(inputs, conv, work, now, numbers, channel);
  fill(*shared, given);
  while (now.goes_on(work)) {
    bool there = now.there, again = SUMS && (adds || now.k > 0);
    int steps = now.steps(work), y_step = now.step * CHANNELS;
    long long first = (numbers >> 4 * now.k & 15) * map.tokens() + now.first;
    NUMBER* y = given.y + (SUMS ? now.first : first) * CHANNELS + channel;
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
      shared->first[own] = there ? first : -1;
      shared->step[own] = now.step;
    }
    convolve_chunk(tokens, inputs, window, mine, steps);
    now.advance(work, map);
    load_inputs(inputs, conv, work, now, numbers, channel);
    __syncthreads();
    project(*shared, given, steps);
    __syncthreads();
    expand(*shared, given);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < CHUNK; ++j) {
      if (j % TOGETHER == 0 && j >= steps) break;
      Channels out;
      float side = shared->side[own][j];
      walk_step(out, state, tokens + j * TOKEN_ROW, time_steps + j * TOKEN_ROW, side, mine);
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
