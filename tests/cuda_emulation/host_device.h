// CUDA on the CPU, for tests: the threads of a block are fibers, which take turns at barriers.
//
// Slow, and faithful in what the kernels rely on: every thread has registers and a stack of its
// own, shuffles exchange within a warp, shared memory is filled with NaN before each block, and a
// thread that misses a barrier stops the program.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "emulation.h"

#define DEVICE inline
#define __global__
#define __launch_bounds__(...)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::shared)

using std::max;
using std::min;

inline float exchange(float x, int mask) {
  int me = threadIdx.x;
  emulation::exchanged[me] = x;
  __syncwarp();
  float other = emulation::exchanged[me ^ mask];
  __syncwarp();
  return other;
}

template <typename T>
T from_lane(T x, int lane) {
  static_assert(sizeof(T) == sizeof(float));
  int me = threadIdx.x;
  std::memcpy(&emulation::exchanged[me], &x, sizeof x);
  __syncwarp();
  std::memcpy(&x, &emulation::exchanged[me / 32 * 32 + lane % 32], sizeof x);
  __syncwarp();
  return x;
}
inline bool any_in_warp(bool condition) {
  bool any = condition;
  for (int mask = 1; mask < 32; mask *= 2) any |= exchange(any, mask) != 0;
  return any;
}

template <int BYTES>
void copy_async(void* to, const void* from, bool wanted, bool there) {
  static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
  if (!wanted) return;
  emulation::begin_copy(to, from, BYTES, there);
}
inline void commit_copies() { emulation::commit_copies(); }
template <int GROUPS>
void await_copies() {
  emulation::await_copies(GROUPS);
}

// Blocks run one after the other here, so a word that is not there yet never will be.
inline void await_word(const unsigned* word, unsigned least) {
  if (*word >= least) return;
  std::fprintf(stderr, "a block waits for one behind it\n");
  std::abort();
}
inline void publish_word(unsigned* word, unsigned value) { *word = value; }
inline unsigned take_number(unsigned* taken) { return (*taken)++; }

inline float select(bool condition, float a, float b) { return condition ? a : b; }

inline float from_bits(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline unsigned to_bits(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof x);
  return bits;
}

inline int opaque(int x) { return x; }
template <typename T>
void move_on(T*& pointer, int count) { pointer += count; }

inline unsigned choose_bytes(unsigned low, unsigned high, unsigned which) {
  unsigned long long both = low | (unsigned long long)high << 32;
  unsigned word = 0;
  for (int i = 0; i < 4; ++i) word |= (unsigned)(both >> 8 * (which >> 4 * i & 7) & 0xff) << 8 * i;
  return word;
}

inline float to_float(bfloat16 x) { return from_bits((unsigned)x.bits << 16); }
inline bfloat16 to_bfloat16(float x) {
  unsigned bits = to_bits(x);
  return {(unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
inline float to_float(float16 x) {
  _Float16 y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
inline float16 to_float16(float x) {
  _Float16 y = (_Float16)x;
  float16 bits;
  std::memcpy(&bits, &y, sizeof y);
  return bits;
}
inline float reciprocal(float x) { return 1 / x; }
inline float rsqrt_approx(float x) { return 1 / std::sqrt(x); }
inline float exp2_approx(float x) { return std::exp2(x); }
inline float log2_approx(float x) { return std::log2(x); }

template <typename T>
unsigned pack_two(float low, float high);
template <>
inline unsigned pack_two<bfloat16>(float low, float high) {
  return to_bfloat16(low).bits | (unsigned)to_bfloat16(high).bits << 16;
}
template <>
inline unsigned pack_two<float16>(float low, float high) {
  return to_float16(low).bits | (unsigned)to_float16(high).bits << 16;
}

// The instructions of matrix.cuh, element by element: which thread has which is written down here a
// second time, as PTX documents mma.m16n8k16 and movmatrix.
template <typename T>
float half_of(unsigned word, int which) {
  return to_float(T{(unsigned short)(word >> 16 * which)});
}

template <typename T>
void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  int me = threadIdx.x, lane = me % 32;
  const emulation::Words* warp = &emulation::fragments[me - lane];
  emulation::fragments[me] = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    int row = lane / 4 + (i >= 2 ? 8 : 0), column = lane % 4 * 2 + (i & 1);
    for (int k = 0; k < 16; ++k) {
      const emulation::Words& of_a = warp[row % 8 * 4 + k % 8 / 2];
      const emulation::Words& of_b = warp[column * 4 + k % 8 / 2];
      float left = half_of<T>(of_a.a[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)], k % 2);
      c[i] += left * half_of<T>(of_b.b[k >= 8 ? 1 : 0], k % 2);
    }
  }
  __syncwarp();
}

template <typename T>
void load_words(unsigned (&a)[4], const T* matrix, int row) {
  int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int i = 0; i < 4; ++i) {
    const T* two = matrix + (g + i % 2 * 8) * row + 2 * t + i / 2 * 8;
    a[i] = *reinterpret_cast<const unsigned*>(two);
  }
}

inline unsigned transpose(unsigned two) {
  int me = threadIdx.x, lane = me % 32, row = lane / 4, column = lane % 4 * 2;
  const emulation::Words* warp = &emulation::fragments[me - lane];
  emulation::fragments[me].a[0] = two;
  __syncwarp();
  unsigned low = warp[column * 4 + row / 2].a[0], high = warp[(column + 1) * 4 + row / 2].a[0];
  __syncwarp();
  return (low >> 16 * (row % 2) & 0xffff) | (high >> 16 * (row % 2)) << 16;
}
