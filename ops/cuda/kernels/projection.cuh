// What a scan needs of each token: low_rank, sides = x @ weight.T and
// delta = softplus(low_rank @ dt_weight.T + dt_bias); by warps, for tiles of 16 tokens.
//
// A warp sums up the projection over groups of 32 channels, and then walks over the groups again
// to expand the time step. In the first product, weight @ x.T, a thread's words of B are 8
// neighbouring channels of two tokens, for the sum over channels does not mind their order. In the
// second, low_rank @ dt_weight.T, its words of A are what the warp has summed up, transposed; and
// its columns are numbered so that it gets 8 neighbouring channels of two tokens, which it stores
// at once.
//
// Given to the compiler: NUMBER, the type of maps, of 16 bits; CHANNELS, a multiple of 8; RANK;
// STATES, and PADDED, that rounded up to a power of two; SIDES; WARPS of a block.
#pragma once

#include "matrix.cuh"

constexpr int GROUPS = (CHANNELS + 31) / 32;
constexpr bool WHOLE_GROUPS = CHANNELS % 32 == 0;
// Sixteens of outputs: those of the low rank, and behind them those of the sides.
constexpr int RANK_PARTS = (RANK + 15) / 16;
constexpr int PARTS = RANK_PARTS + (SIDES * PADDED + 15) / 16;

// The sums of each output for 16 tokens, by their first and last 8.
typedef float Sums[PARTS][2][4];

// Shapes: weight (RANK + SIDES * STATES, E); dt_weight (E, RANK); dt_bias (E,);
// low_rank (tokens, RANK); delta (tokens, E); sides (tokens, SIDES * PADDED), each side padded with
// zeros to PADDED.
struct Projection {
  const float *weight, *dt_weight, *dt_bias;
  NUMBER *low_rank, *delta;
  float* sides;
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

// Where a thread finds tokens of a tile, negative for none: those of whose channels it has words, g
// and g + 8, and those of which it has sums, 2t, 2t + 1, 2t + 8 and 2t + 9.
struct Tokens {
  int row[2], column[4];
};

// Add to the sums over channels what a step makes of a thread's channels of a group.
template <int TILES>
DEVICE void project(Sums (&sums)[TILES], const Quad (&x)[TILES][2], const Weights& weights,
                    int group, int step) {
#pragma unroll
  for (int part = 0; part < PARTS; ++part) {
    Quad a = weights.project[group][part][step][threadIdx.x % 32];
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const Quad& words = x[tile][i];
        multiply<NUMBER>(sums[tile][part][i], a.at, words.at[2 * step], words.at[2 * step + 1]);
      }
    }
  }
}

DEVICE void store_sides(const Projection& given, const Tokens& tokens, const Place& place,
                        const Sums& sums) {
  constexpr int COLUMNS = SIDES * PADDED;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (tokens.column[i] < 0) continue;
    float* to = given.sides + (long long)tokens.column[i] * COLUMNS + place.g;
#pragma unroll
    for (int first = 0; first < COLUMNS; first += 8) {
      float sum = sums[RANK_PARTS + first / 16][i / 2][first / 8 % 2 * 2 + i % 2];
      if (first + place.g < COLUMNS) to[first] = sum;
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
    NUMBER* row = given.low_rank + (long long)tokens.row[i] * RANK;
#pragma unroll
    for (int first = 0; first < RANK; first += 8) {
      unsigned word = low[first / 16][first / 8 % 2 * 2 + i];
      int rank = first + place.t * 2;
      bool there = tokens.row[i] >= 0 && rank < RANK;
      if (RANK % 2 == 0) {
        if (there) *reinterpret_cast<unsigned*>(row + rank) = word;
      } else {
        if (there) row[rank] = {(unsigned short)word};
        if (there && rank + 1 < RANK) row[rank + 1] = {(unsigned short)(word >> 16)};
      }
    }
  }
}

// Store the time steps of a group's channels, and go on to the next group's.
template <int TILES>
DEVICE void expand(NUMBER* (&to)[TILES][2], const Tokens (&tokens)[TILES], const Place& place,
                   const unsigned (&low)[TILES][RANK_PARTS][4], const Weights& weights, int group) {
  float sums[TILES][4][4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const Pack<float, 4>& bias = weights.bias[group][place.t][j / 2];
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[tile][j][i] = bias.at[j % 2 * 2 + i % 2];
    }
  }
#pragma unroll
  for (int part = 0; part < RANK_PARTS; ++part) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Quad b = weights.expand[group][part][half][threadIdx.x % 32];
#pragma unroll
      for (int tile = 0; tile < TILES; ++tile) {
        multiply<NUMBER>(sums[tile][2 * half], low[tile][part], b.at[0], b.at[1]);
        multiply<NUMBER>(sums[tile][2 * half + 1], low[tile][part], b.at[2], b.at[3]);
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      Quad steps;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float* two = &sums[tile][j][2 * i];
        steps.at[j] = pack_two<NUMBER>(rough_softplus(two[0]), rough_softplus(two[1]));
      }
      if (tokens[tile].row[i] >= 0 && place.has_channels(group)) {
        *reinterpret_cast<Quad*>(to[tile][i]) = steps;
      }
      to[tile][i] += 32;
    }
  }
}

// Store what the tiles' sums make of their tokens.
template <int TILES>
DEVICE void finish(const Projection& given, const Tokens (&tokens)[TILES], const Place& place,
                   const Sums (&sums)[TILES], const Weights& weights) {
  unsigned low[TILES][RANK_PARTS][4];
  NUMBER* delta[TILES][2];
#pragma unroll
  for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      delta[tile][i] = given.delta + (long long)tokens[tile].row[i] * CHANNELS + place.t * 8;
    }
    store_sides(given, tokens[tile], place, sums[tile]);
    round_low_rank(low[tile], sums[tile]);
    store_low_rank(given, tokens[tile], place, low[tile]);
  }
#pragma unroll 1
  for (int group = 0; group < GROUPS; ++group) {
    expand(delta, tokens, place, low, weights, group);
  }
}
