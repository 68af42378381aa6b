// The projection of the tokens of a map; see projection.cuh. A warp owns 16 of them at a time.
//
// Given to the compiler, beside what projection.cuh needs: AHEAD, groups of channels whose loads a
// thread has under way together.
#include "projection.cuh"

// A thread's tokens of tile number `tile`, in a map of `tokens` tokens.
DEVICE Tokens find_tokens(int tile, int tokens, const Place& place) {
  Tokens found;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    int token = tile * 16 + place.g + 8 * i;
    found.row[i] = token < tokens ? token : -1;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    int token = tile * 16 + place.t * 2 + i / 2 * 8 + i % 2;
    found.column[i] = token < tokens ? token : -1;
  }
  return found;
}

// Where a thread reads its two tokens' channels. Behind the map's last token are copies of it.
struct Source {
  const NUMBER* at[2];

  DEVICE void find(const NUMBER* x, int tile, int tokens, const Place& place) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      long long token = min(tile * 16 + place.g + 8 * i, tokens - 1);
      at[i] = x + token * CHANNELS + place.t * 8;
    }
  }
  DEVICE void load(Quad (&out)[1][2], const Place& place, int group) const {
    if (group >= GROUPS) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      out[0][i] = place.has_channels(group) ? *reinterpret_cast<const Quad*>(at[i] + group * 32)
                                            : Quad{};
    }
  }
};

// Grid: any number of blocks, which share out the tiles. x is (tokens, E).
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1)
    projection(const NUMBER* x, int tokens, Projection given) {
  SHARED(Weights, shared);
  const Weights& weights = *shared;
  Place place;
  int tiles = (tokens + 15) / 16;
  // Block by block first: where there are few tiles left, every multiprocessor has some.
  int tile = threadIdx.x / 32 * gridDim.x + blockIdx.x;
  Source source;
  Quad held[AHEAD][1][2];
  source.find(x, tile, tokens, place);
#pragma unroll
  for (int j = 0; j < AHEAD; ++j) source.load(held[j], place, j);
  fill(*shared, given, place);
  __syncthreads();

  for (; tile < tiles; tile += WARPS * gridDim.x) {
    Sums sums[1] = {};
#pragma unroll 1
    for (int start = 0; start < GROUPS; start += AHEAD) {
#pragma unroll
      for (int j = 0; j < AHEAD; ++j) {
        if (start + j >= GROUPS) break;
#pragma unroll
        for (int step = 0; step < 2; ++step) project(sums, held[j], weights, start + j, step);
        source.load(held[j], place, start + j + AHEAD);
      }
    }
    // While the time steps are worked out, the next tokens come.
    source.find(x, tile + WARPS * gridDim.x, tokens, place);
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) source.load(held[j], place, j);
    finish(given, {find_tokens(tile, tokens, place)}, place, sums, weights);
  }
}
