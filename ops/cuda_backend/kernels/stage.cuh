// Copying what a warp is going to read into shared memory, while it computes.
#pragma once

#include "device.cuh"

// Numbers of neighbouring tokens, side by side: what a warp reads of a map, or of B or C. Aligned so
// that a thread reads the most that it holds of a token at once.
template <typename T, int TOKENS, int COLUMNS>
struct alignas(64) Staged {
  T at[TOKENS][COLUMNS];
};

// If `wanted`, copy BYTES at once, or else as many zeros.
template <int BYTES, typename T>
DEVICE void copy_chunk(T* to, const T* from, bool wanted, bool there) {
  if constexpr (BYTES < 4) {  // the hardware does not copy less than four
    if (wanted) *to = there ? *from : from_float<T>(0.f);
  } else {
    copy_async<BYTES>(to, from, wanted, there);
  }
}

// Begin to copy `tokens` tokens that are `distance` apart, zeros in place of the columns from
// `columns` on. The threads of a warp share out the work; BYTES divides what there is of a token.
template <int BYTES, typename T, int TOKENS, int COLUMNS>
DEVICE void copy_tokens(Staged<T, TOKENS, COLUMNS>& to, const T* from, int distance, int tokens,
                        int columns) {
  constexpr int COUNT = BYTES / sizeof(T), CHUNKS = COLUMNS / COUNT;
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int first = 0; first < TOKENS * CHUNKS; first += 32) {
    int token = (first + lane) / CHUNKS, column = (first + lane) % CHUNKS * COUNT;
    copy_chunk<BYTES>(&to.at[0][0] + token * COLUMNS + column, from + token * distance + column,
                      token < tokens, column < columns);
  }
}
