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
  if constexpr (CHUNKS <= 32 && 32 % CHUNKS == 0) {  // the same columns of every AT_ONCE-th token
    constexpr int AT_ONCE = 32 / CHUNKS;
    int token = lane / CHUNKS, column = lane % CHUNKS * COUNT;
    bool there = column < columns;
    from += token * distance + column;
    T* target = &to.at[0][0] + token * COLUMNS + column;
#pragma unroll
    for (int first = 0; first < TOKENS; first += AT_ONCE) {
      copy_chunk<BYTES>(target + first * COLUMNS, from, first + token < tokens, there);
      move_on(from, AT_ONCE * distance);
    }
    return;
  }
#pragma unroll
  for (int first = 0; first < TOKENS * CHUNKS; first += 32) {
    int token = (first + lane) / CHUNKS, column = (first + lane) % CHUNKS * COUNT;
    copy_chunk<BYTES>(&to.at[0][0] + token * COLUMNS + column, from + token * distance + column,
                      token < tokens, column < columns);
  }
}

// The same for a few narrow columns: chunks that the hardware does not copy are under way in registers,
// from begin() to finish(), which the warp has to meet behind. Waited for at once, they would hold up
// everything that is copied after them.
template <int BYTES, typename T, int TOKENS, int COLUMNS>
struct NarrowCopy {
  static constexpr int COUNT = (TOKENS * COLUMNS + 31) / 32;
  T under_way[COUNT];

  DEVICE void begin(Staged<T, TOKENS, COLUMNS>& to, const T* from, int distance, int tokens,
                    int columns) {
    if constexpr (BYTES >= 4) {
      copy_tokens<BYTES>(to, from, distance, tokens, columns);
      return;
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      int which = 32 * i + threadIdx.x % 32, token = which / COLUMNS, column = which % COLUMNS;
      bool there = token < tokens && column < columns;
      under_way[i] = there ? from[token * distance + column] : from_float<T>(0.f);
    }
  }

  DEVICE void finish(Staged<T, TOKENS, COLUMNS>& to) const {
    if constexpr (BYTES >= 4) return;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      int which = 32 * i + threadIdx.x % 32;
      if (which < TOKENS * COLUMNS) (&to.at[0][0])[which] = under_way[i];
    }
  }
};
