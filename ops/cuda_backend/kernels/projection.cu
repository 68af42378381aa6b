// What a scan needs of each token: low_rank, sides = x @ weight.T and
// delta = softplus(low_rank @ dt_weight.T + dt_bias).
//
// A warp owns 16 tokens at a time, sums up the projection over groups of 32 channels, and walks over
// the groups again to expand the time step. In the first product, weight @ x.T, a thread's words of
// B are what it loads: of each group 8 neighbouring channels of two tokens, for the sum over
// channels does not mind their order. In the second, low_rank @ dt_weight.T, its words of A are
// what the warp has summed up, transposed; and its columns are numbered so that it gets 8
// neighbouring channels of two tokens, which it stores at once.
//
// Given to the compiler: NUMBER, the type of maps, of 16 bits; CHANNELS, a multiple of 8; RANK;
// STATES, and PADDED, that rounded up to a power of two; SIDES; AHEAD, groups of channels whose loads
// a thread has under way together; WARPS of a block.
#include "matrix.cuh"

constexpr int GROUPS = (CHANNELS + 31) / 32;
constexpr bool WHOLE_GROUPS = CHANNELS % 32 == 0;
// Sixteens of outputs: those of the low rank, and behind them those of the sides.
constexpr int RANK_PARTS = (RANK + 15) / 16;
constexpr int PARTS = RANK_PARTS + (SIDES * PADDED + 15) / 16;

// The sums of each output for 16 tokens, by their first and last 8.
typedef float Sums[PARTS][2][4];

struct Projection {
  const NUMBER* x;
  const float *weight, *dt_weight, *dt_bias;
  NUMBER *low_rank, *delta;
  float* sides;
  int tokens;
};

// Shared memory: words of A of the first product and of B of the second, in the order in which the
// threads load them, then the bias.
struct Weights {
  Quad project[GROUPS][PARTS][2][32], expand[GROUPS][RANK_PARTS][2][32];
  Pack<float, 4> bias[GROUPS][4][2];
};

// A thread's place in fragments.
struct Place {
  int g, t;

  DEVICE Place() : g(threadIdx.x % 32 / 4), t(threadIdx.x % 4) {}
  DEVICE bool has_channels(int group) const {
    return WHOLE_GROUPS || group * 32 + t * 8 < CHANNELS;
  }
};

// The row of `weight` that belongs to an output; negative if none.
DEVICE int weight_row(int output) {
  if (output < RANK_PARTS * 16) return output < RANK ? output : -1;
  output -= RANK_PARTS * 16;
  int side = output / PADDED, state = output % PADDED;
  return side < SIDES && state < STATES ? RANK + side * STATES + state : -1;
}

// Of a group's two steps, each sums up four of a thread's channels.
DEVICE Quad projecting_words(const float* weight, const Place& place, int group, int part,
                             int step) {
  Quad words = {};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    int row = weight_row(part * 16 + place.g + 8 * i);
    if (row < 0 || !place.has_channels(group)) continue;
    const float* from = weight + row * CHANNELS + group * 32 + place.t * 8 + step * 4;
    Pack<float, 4> four = *reinterpret_cast<const Pack<float, 4>*>(from);
    words.at[i] = pack_two<NUMBER>(four.at[0], four.at[1]);
    words.at[i + 2] = pack_two<NUMBER>(four.at[2], four.at[3]);
  }
  return words;
}

// Column g of product j (0 to 3) of a group is channel 8 * (g / 2) + 2 * j + g % 2; here are those
// of two products.
DEVICE Quad expanding_words(const float* dt_weight, const Place& place, int group, int part,
                            int half) {
  Quad words;
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    int channel = group * 32 + place.g / 2 * 8 + half * 4 + word / 2 * 2 + place.g % 2;
    int rank = part * 16 + word % 2 * 8 + place.t * 2;
    float two[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      bool there = channel < CHANNELS && rank + i < RANK;
      two[i] = there ? dt_weight[channel * RANK + rank + i] : 0.f;
    }
    words.at[word] = pack_two<NUMBER>(two[0], two[1]);
  }
  return words;
}

// Warp by warp, so that all of its threads are at the same words.
DEVICE void fill(Weights& weights, const Projection& given, const Place& place) {
  int lane = threadIdx.x % 32;
#pragma unroll 4
  for (int i = threadIdx.x / 32; i < GROUPS * PARTS * 2; i += WARPS) {
    int group = i / (PARTS * 2), part = i / 2 % PARTS, step = i % 2;
    weights.project[group][part][step][lane] =
        projecting_words(given.weight, place, group, part, step);
  }
#pragma unroll 2
  for (int i = threadIdx.x / 32; i < GROUPS * RANK_PARTS * 2; i += WARPS) {
    int group = i / (RANK_PARTS * 2), part = i / 2 % RANK_PARTS, half = i % 2;
    weights.expand[group][part][half][lane] =
        expanding_words(given.dt_weight, place, group, part, half);
  }
  float* bias = &weights.bias[0][0][0].at[0];
  for (int i = threadIdx.x; i < GROUPS * 32; i += WARPS * 32) {
    bias[i] = i < CHANNELS ? given.dt_bias[i] : 0.f;
  }
}

// A thread's two tokens of the 16 of a tile: those that it loads and stores channels of. Behind the
// map's last token are copies of it, which are not stored.
struct Tokens {
  long long at[2];
  bool there[2];

  DEVICE Tokens(int tile, int tokens, const Place& place) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int token = tile * 16 + place.g + 8 * i;
      there[i] = token < tokens;
      at[i] = min(token, tokens - 1);
    }
  }
};

// Of two tokens, a thread's 8 channels of a group.
struct Held {
  Quad at[2];

  DEVICE void load(const NUMBER* const (&from)[2], const Place& place, int group) {
    if (group >= GROUPS) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      at[i] = place.has_channels(group) ? *reinterpret_cast<const Quad*>(from[i] + group * 32)
                                        : Quad{};
    }
  }
};

// The thread's channels of its tokens' first group.
template <typename T>
DEVICE void find(T* (&out)[2], T* map, const Tokens& tokens, const Place& place) {
#pragma unroll
  for (int i = 0; i < 2; ++i) out[i] = map + tokens.at[i] * CHANNELS + place.t * 8;
}

// Add a group's part to the sums over channels.
DEVICE void project(Sums& sums, const Held& held, const Weights& weights, int group) {
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      Quad a = weights.project[group][part][step][threadIdx.x % 32];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const Quad& x = held.at[i];
        multiply<NUMBER>(sums[part][i], a.at, x.at[2 * step], x.at[2 * step + 1]);
      }
    }
  }
}

DEVICE void store_sides(const Projection& given, int tile, const Place& place, const Sums& sums) {
  constexpr int COLUMNS = SIDES * PADDED;
  int token = tile * 16 + place.t * 2;
  float* to = given.sides + (long long)token * COLUMNS + place.g;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int ahead = i / 2 * 8 + i % 2;
    if (token + ahead >= given.tokens) break;
#pragma unroll
    for (int first = 0; first < COLUMNS; first += 8) {
      float sum = sums[RANK_PARTS + first / 16][i / 2][first / 8 % 2 * 2 + i % 2];
      if (first + place.g < COLUMNS) to[ahead * COLUMNS + first] = sum;
    }
  }
}

// Round the low rank, to words of A.
DEVICE void round_low_rank(unsigned (&low)[RANK_PARTS][4], const Sums& sums) {
#pragma unroll
  for (int part = 0; part < RANK_PARTS; ++part) {
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      const float* two = &sums[part][word % 2][word / 2 * 2];
      low[part][word] = transpose(pack_two<NUMBER>(two[0], two[1]));
    }
  }
}

DEVICE void store_low_rank(const Projection& given, const Tokens& tokens, const Place& place,
                           const unsigned (&low)[RANK_PARTS][4]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    NUMBER* row = given.low_rank + tokens.at[i] * RANK;
#pragma unroll
    for (int first = 0; first < RANK; first += 8) {
      unsigned word = low[first / 16][first / 8 % 2 * 2 + i];
      int rank = first + place.t * 2;
      bool there = tokens.there[i] && rank < RANK;
      if (RANK % 2 == 0) {
        if (there) *reinterpret_cast<unsigned*>(row + rank) = word;
      } else {
        if (there) row[rank] = {(unsigned short)word};
        if (there && rank + 1 < RANK) row[rank + 1] = {(unsigned short)(word >> 16)};
      }
    }
  }
}

// log(1 + exp(x)) within a factor of 1 +- 1e-5, far below what rounding to 16 bits does, for very
// negative x too: log(1 + s) / s as a minimax polynomial on [0, 1].
DEVICE float rough_softplus(float x) {
  float s = exp2_approx(-fabsf(x) * LOG2E);
  float ratio = -0.02386915f;
  ratio = ratio * s + 0.10122228f;
  ratio = ratio * s - 0.21004869f;
  ratio = ratio * s + 0.32520667f;
  ratio = ratio * s - 0.49936137f;
  ratio = ratio * s + 0.99999160f;
  return s * ratio + fmaxf(x, 0.f);
}

// Store the time steps of a group's channels, and go on to the next group's.
DEVICE void expand(NUMBER* (&to)[2], const Tokens& tokens, const Place& place,
                   const unsigned (&low)[RANK_PARTS][4], const Weights& weights, int group) {
  float sums[4][4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const Pack<float, 4>& bias = weights.bias[group][place.t][j / 2];
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[j][i] = bias.at[j % 2 * 2 + i % 2];
  }
#pragma unroll
  for (int part = 0; part < RANK_PARTS; ++part) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Quad b = weights.expand[group][part][half][threadIdx.x % 32];
      multiply<NUMBER>(sums[2 * half], low[part], b.at[0], b.at[1]);
      multiply<NUMBER>(sums[2 * half + 1], low[part], b.at[2], b.at[3]);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    Quad steps;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float low_step = rough_softplus(sums[j][2 * i]);
      steps.at[j] = pack_two<NUMBER>(low_step, rough_softplus(sums[j][2 * i + 1]));
    }
    if (tokens.there[i] && place.has_channels(group)) {
      *reinterpret_cast<Quad*>(to[i]) = steps;
    }
    to[i] += 32;
  }
}

// Grid: any number of blocks, which share out the tiles of 16 tokens.
//
// Shapes: x (tokens, E); weight (RANK + SIDES * STATES, E); dt_weight (E, RANK); dt_bias (E,);
// low_rank (tokens, RANK); delta (tokens, E); sides (tokens, SIDES * PADDED), each side padded with
// zeros to PADDED.
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) projection(Projection given) {
  SHARED(Weights, shared);
  const Weights& weights = *shared;
  Place place;
  int tiles = (given.tokens + 15) / 16;
  // Block by block first: where there are few tiles left, every multiprocessor has some.
  int tile = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  const NUMBER* from[2];
  Held held[AHEAD];
  find(from, given.x, Tokens(tile, given.tokens, place), place);
#pragma unroll
  for (int j = 0; j < AHEAD; ++j) held[j].load(from, place, j);
  fill(*shared, given, place);
  __syncthreads();

  for (; tile < tiles; tile += WARPS * gridDim.x) {
    Sums sums = {};
#pragma unroll 1
    for (int start = 0; start < GROUPS; start += AHEAD) {
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        if (start + j >= GROUPS) break;
        project(sums, held[j], weights, start + j);
        held[j].load(from, place, start + j + AHEAD);
      }
    }
    // While the time steps are worked out, the next tokens come.
    find(from, given.x, Tokens(tile + WARPS * gridDim.x, given.tokens, place), place);
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) held[j].load(from, place, j);

    Tokens tokens(tile, given.tokens, place);
    unsigned low[RANK_PARTS][4];
    NUMBER* to[2];
    store_sides(given, tile, place, sums);
    round_low_rank(low, sums);
    store_low_rank(given, tokens, place, low);
    find(to, given.delta, tokens, place);
#pragma unroll 1
    for (int group = 0; group < GROUPS; ++group) {
      expand(to, tokens, place, low, weights, group);
    }
  }
}
