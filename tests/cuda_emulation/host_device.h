// CUDA on the CPU, for tests: the threads of a block are fibers, which take turns at barriers.
//
// Slow, and faithful in what the kernels rely on: every thread has registers and a stack of its
// own, shuffles exchange within a warp, shared memory is filled with NaN before each block, and a
// thread that misses a barrier stops the program.
#pragma once

#include "standard.h"

#define DEVICE inline
#define __global__
#define __launch_bounds__(...)
#define SHARED(type, name) type* name = reinterpret_cast<type*>(emulation::shared.data())

using std::max;
using std::min;

struct Index {
  int x = 0, y = 0;
};
inline Index threadIdx, blockIdx, gridDim;

namespace emulation {

constexpr int STACK_BYTES = 1 << 18;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  bool done = false;
};

// What a thread contributes to a product of matrices.
struct Words {
  unsigned a[4], b[2];
};

struct Barrier {
  int arrived = 0, passed = 0;
};

// A copy under way: its target holds no number before it arrives.
struct Copy {
  void* to;
  std::vector<char> bytes;
};
typedef std::vector<Copy> Group;

inline std::vector<std::vector<Group>> groups;  // of each thread; the last one is not committed
inline std::vector<Fiber> fibers;
inline std::vector<Barrier> warp_barriers;
inline std::vector<float> exchanged, shared;
inline std::vector<Words> fragments;
inline Barrier block_barrier;
inline ucontext_t scheduler;
inline int current = 0;
inline std::function<void()> body;

inline void yield() { swapcontext(&fibers[current].context, &scheduler); }

inline void wait(Barrier& barrier, int threads) {
  int turn = barrier.passed;
  if (++barrier.arrived == threads) {
    barrier.arrived = 0;
    ++barrier.passed;
  }
  while (barrier.passed == turn) yield();
}

inline void run_fiber() {
  body();
  fibers[current].done = true;
  yield();
}

inline void run_block(int threads) {
  warp_barriers.assign(threads / 32, Barrier());
  block_barrier = Barrier();
  groups.assign(threads, std::vector<Group>(1));
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&fiber.context, run_fiber, 0);
  }
  int done = 0;
  for (long turns = 0; done < threads; ++turns) {
    if (turns > 100000000) {
      std::fprintf(stderr, "a barrier was missed\n");
      std::abort();
    }
    for (current = 0; current < threads; ++current) {
      if (fibers[current].done) continue;
      threadIdx.x = current;
      swapcontext(&scheduler, &fibers[current].context);
      done += fibers[current].done;
    }
  }
}

inline void run_grid(Index grid, int threads, int shared_bytes) {
  gridDim = grid;
  fibers = std::vector<Fiber>(threads);
  exchanged.assign(threads, 0.f);
  fragments.assign(threads, Words());
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
      shared.assign(shared_bytes / sizeof(float), std::numeric_limits<float>::quiet_NaN());
      run_block(threads);
    }
  }
}

template <typename... Arguments, size_t... I>
void set_body(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
  body = [=] { kernel(*static_cast<Arguments*>(arguments[I])...); };
}

template <typename... Arguments>
void launch(Index grid, int threads, int shared_bytes, void (*kernel)(Arguments...),
            void** arguments) {
  set_body(kernel, arguments, std::index_sequence_for<Arguments...>());
  run_grid(grid, threads, shared_bytes);
}

}  // namespace emulation

inline void __syncthreads() {
  emulation::wait(emulation::block_barrier, (int)emulation::fibers.size());
}
inline void __syncwarp() { emulation::wait(emulation::warp_barriers[threadIdx.x / 32], 32); }

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
  bool aligned = reinterpret_cast<size_t>(to) % BYTES == 0 &&
                 (!there || reinterpret_cast<size_t>(from) % BYTES == 0);
  if (!aligned) {
    std::fprintf(stderr, "a copy is not aligned\n");
    std::abort();
  }
  std::vector<char> bytes(BYTES, 0);
  if (there) std::memcpy(bytes.data(), from, BYTES);
  std::memset(to, 0xff, BYTES);
  emulation::groups[threadIdx.x].back().push_back({to, bytes});
}
inline void commit_copies() { emulation::groups[threadIdx.x].emplace_back(); }
template <int GROUPS>
void await_copies() {
  std::vector<emulation::Group>& groups = emulation::groups[threadIdx.x];
  while ((int)groups.size() - 1 > GROUPS) {
    for (const emulation::Copy& copy : groups.front()) {
      std::memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
    }
    groups.erase(groups.begin());
  }
}

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

inline unsigned transpose(unsigned two) {
  int me = threadIdx.x, lane = me % 32, row = lane / 4, column = lane % 4 * 2;
  const emulation::Words* warp = &emulation::fragments[me - lane];
  emulation::fragments[me].a[0] = two;
  __syncwarp();
  unsigned low = warp[column * 4 + row / 2].a[0], high = warp[(column + 1) * 4 + row / 2].a[0];
  __syncwarp();
  return (low >> 16 * (row % 2) & 0xffff) | (high >> 16 * (row % 2)) << 16;
}
