// What the kernels need of the hardware: number formats, exponentials, exchange between threads.
//
// Nothing here or in the kernels includes CUDA's own headers, so that NVRTC, which PyTorch brings,
// is all that compiling them takes. MMV2M_HOST stands for the tests' emulation on the CPU.
#pragma once

struct bfloat16 {
  unsigned short bits;
};
struct float16 {
  unsigned short bits;
};

#ifdef MMV2M_HOST
#include "host_device.h"
#else

#define DEVICE __device__ __forceinline__
#define SHARED(type, name) extern __shared__ type name[]

DEVICE float from_bits(unsigned bits) { return __uint_as_float(bits); }
DEVICE unsigned to_bits(float x) { return __float_as_uint(x); }
DEVICE float to_float(bfloat16 x) { return from_bits((unsigned)x.bits << 16); }
DEVICE float to_float(float16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
DEVICE bfloat16 to_bfloat16(float x) {
  bfloat16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
DEVICE float16 to_float16(float x) {
  float16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
DEVICE float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float rsqrt_approx(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
DEVICE float log2_approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// condition ? a : b, by selection: the compiler may make branches of the operator, which keep the
// threads of a warp apart where they have to meet.
DEVICE float select(bool condition, float a, float b) {
  float y;
  asm("{.reg .pred p; setp.ne.s32 p, %3, 0; selp.f32 %0, %1, %2, p;}"
      : "=f"(y) : "f"(a), "f"(b), "r"((int)condition));
  return y;
}
// Four of the eight bytes of two words: the digits of `which`, of which 0 to 3 are those of `low`.
DEVICE unsigned choose_bytes(unsigned low, unsigned high, unsigned which) {
  return __byte_perm(low, high, which);
}
DEVICE float exchange(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
// What another thread of the warp, by its lane, has as x.
template <typename T>
DEVICE T from_lane(T x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }
DEVICE bool any_in_warp(bool condition) { return __any_sync(0xffffffffu, condition); }

// x, of which the compiler does not know where it comes from: it stays in a register, instead of being
// computed again and again.
DEVICE int opaque(int x) { return __shfl_sync(0xffffffffu, x, threadIdx.x); }

// pointer += count, in one instruction: left to itself, the compiler makes several of it in loops.
template <typename T>
DEVICE void move_on(T*& pointer, int count) {
  asm("mad.wide.s32 %0, %1, %2, %0;" : "+l"(pointer) : "r"(count), "n"((int)sizeof(T)));
}

// If `wanted`, begin to copy BYTES (4, 8 or 16) from global to shared memory, or else as many zeros.
// They have arrived once the thread has waited for them; for other threads, once it meets them after
// that. A branch around it would take the arithmetic of addresses along, which copies share.
template <int BYTES>
DEVICE void copy_async(void* to, const void* from, bool wanted, bool there) {
  unsigned target = (unsigned)__cvta_generic_to_shared(to);
  asm volatile(
      "{.reg .pred p; setp.ne.s32 p, %4, 0; @p cp.async.ca.shared.global [%0], [%1], %2, %3;}"
      :: "r"(target), "l"(from), "n"(BYTES), "r"(there ? BYTES : 0), "r"((int)wanted) : "memory");
}
// All copies that the thread has begun since it last called this are a group.
DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Wait for all the thread's groups but the latest GROUPS.
template <int GROUPS>
DEVICE void await_copies() { asm volatile("cp.async.wait_group %0;" :: "n"(GROUPS) : "memory"); }

// Words in global memory by which blocks tell each other how far they are. Who has seen a word of
// another block sees everything that it, and the threads it had met, wrote before.
DEVICE void await_word(const unsigned* word, unsigned least) {
  unsigned now;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(word) : "memory");
  } while (now < least);
  __syncwarp();
}
DEVICE void publish_word(unsigned* word, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" :: "l"(word), "r"(value) : "memory");
}
// The number of those that have taken one before.
DEVICE unsigned take_number(unsigned* taken) { return atomicAdd(taken, 1u); }

#endif

DEVICE float to_float(float x) { return x; }

template <typename T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) { return x; }
template <>
DEVICE bfloat16 from_float<bfloat16>(float x) { return to_bfloat16(x); }
template <>
DEVICE float16 from_float<float16>(float x) { return to_float16(x); }

constexpr float LOG2E = 1.4426950408889634f;
constexpr float LN2 = 0.6931471805599453f;

// 1 / (1 + exp(-x)), times x SiLU.
DEVICE float sigmoid(float x) { return reciprocal(1 + exp2_approx(-x * LOG2E)); }

// Derivative of SiLU at x, from the sigmoid there.
DEVICE float silu_grad(float x, float sigmoid) { return sigmoid * (1 + x * (1 - sigmoid)); }

// log(1 + exp(x)), without overflow and exact for very negative x.
DEVICE float softplus(float x) {
  float small = exp2_approx(-fabsf(x) * LOG2E);
  // log(1 + s) rounds 1 + s: below 1/32 its series is more exact, up to s^5 / 5.
  float series = small * (1 - small * (1 / 2.f - small * (1 / 3.f - small * (1 / 4.f))));
  float tail = small < 0.03125f ? series : log2_approx(1 + small) * LN2;
  return fmaxf(x, 0.f) + tail;
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

// Derivative of softplus, from its value: 1 - exp(-y).
DEVICE float softplus_grad(float y) {
  float series = y * (1 - y * (1 / 2.f - y * (1 / 6.f - y * (1 / 24.f))));
  return y < 0.0625f ? series : 1 - exp2_approx(-y * LOG2E);
}

// COUNT numbers that lie together and are loaded and stored at once.
template <typename T, int COUNT>
struct alignas(sizeof(T) * COUNT) Pack {
  T at[COUNT];
};

// As loaded, and as floats when they are needed: half-precision numbers take half the registers.
template <typename T, int COUNT>
struct Numbers {
  Pack<T, COUNT> raw;

  DEVICE void load(const T* from) { raw = *reinterpret_cast<const Pack<T, COUNT>*>(from); }
  DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) raw.at[i] = from_float<T>(0.f);
  }
  DEVICE void set(int i, T value) { raw.at[i] = value; }
  DEVICE void get(float (&out)[COUNT]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) out[i] = to_float(raw.at[i]);
  }
};

// Taken from 32-bit words, a bfloat16 costs one instruction; taken alone, two.
template <int COUNT>
struct Numbers<bfloat16, COUNT> {
  static constexpr int WORDS = (COUNT + 1) / 2;
  Pack<unsigned, WORDS> raw;

  DEVICE void load(const bfloat16* from) {
    if (COUNT == 1) {
      raw.at[0] = from->bits;
    } else {
      raw = *reinterpret_cast<const Pack<unsigned, WORDS>*>(from);
    }
  }
  DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < WORDS; ++i) raw.at[i] = 0;
  }
  DEVICE void set(int i, bfloat16 value) {
    unsigned others = raw.at[i / 2] & (i % 2 ? 0xffffu : 0xffff0000u);
    raw.at[i / 2] = others | (unsigned)value.bits << i % 2 * 16;
  }
  DEVICE void get(float (&out)[COUNT]) const {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      unsigned word = raw.at[i / 2];
      out[i] = from_bits(i % 2 ? word & 0xffff0000u : word << 16);
    }
  }
  // If `swapped`, each two neighbours in each other's place: for as many instructions.
  DEVICE void get(float (&out)[COUNT], bool swapped) const {
    constexpr unsigned LOWER = 0x1044, UPPER = 0x3244;
    unsigned which = LOWER + swapped * (UPPER - LOWER), other = LOWER + UPPER - which;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      out[i] = from_bits(choose_bytes(raw.at[i / 2], 0, i % 2 ? other : which));
    }
  }
};

// A thread's neighbouring numbers, from where they lie aligned.
template <typename T, int COUNT>
DEVICE void read_numbers(float (&out)[COUNT], const T* from) {
  Numbers<T, COUNT> numbers;
  numbers.load(from);
  numbers.get(out);
}

// Whether a thread reads neighbours swapped for nothing.
template <typename T>
constexpr bool SWAPS = false;
template <>
constexpr bool SWAPS<bfloat16> = true;

// The same in another order: number i ^ order is the i-th, where `order` has some of the bits BITS.
template <int BITS, typename T, int COUNT>
DEVICE void read_ordered(float (&out)[COUNT], const T* from, int order) {
  constexpr bool SWAP = SWAPS<T> && BITS % 2;
  constexpr int OTHERS = SWAP ? BITS - 1 : BITS, PART = OTHERS ? OTHERS & -OTHERS : COUNT;
#pragma unroll
  for (int first = 0; first < COUNT; first += PART) {
    Numbers<T, PART> numbers;
    float part[PART];
    numbers.load(from + (first ^ (order & OTHERS)));
    if constexpr (SWAP) {
      numbers.get(part, order % 2);
    } else {
      numbers.get(part);
    }
#pragma unroll
    for (int i = 0; i < PART; ++i) out[first + i] = part[i];
  }
}

// Bring numbers into such an order.
template <int BITS, int COUNT>
DEVICE void reorder(float (&x)[COUNT], int order) {
#pragma unroll
  for (int bit = 1; bit < COUNT; bit *= 2) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      if (!(BITS & bit) || i & bit) continue;
      float one = x[i], other = x[i + bit];
      x[i] = select(order & bit, other, one);
      x[i + bit] = select(order & bit, one, other);
    }
  }
}

// Sums each of COUNT numbers over the WIDTH threads whose lane differs in the bits of WIDTH - 1
// times FIRST. The threads exchange halves, so that in the end each keeps the sums of COUNT / WIDTH
// numbers (at least one) at the front, those from owned_sum() on: 3 exchanges for 4 numbers over
// 4 threads instead of 8.
//
// To keep one half and send the other takes selections, except for halves of as many numbers as there
// are bits in ORDERED: of these, every thread has the one that it keeps in front.
template <int COUNT, int WIDTH, int FIRST, int ORDERED = 0>
DEVICE void spread_sum(float (&x)[COUNT], int lane) {
  int count = COUNT;
#pragma unroll
  for (int mask = FIRST; mask < WIDTH * FIRST; mask *= 2) {
    if (count > 1) {
      count /= 2;
      bool upper = lane & mask;
#pragma unroll
      for (int i = 0; i < COUNT / 2; ++i) {
        if (i < count) {
          bool ordered = ORDERED & count;
          float kept = ordered ? x[i] : select(upper, x[i + count], x[i]);
          float sent = ordered ? x[i + count] : select(upper, x[i], x[i + count]);
          x[i] = kept + exchange(sent, mask);
        }
      }
    } else {
      x[0] += exchange(x[0], mask);
    }
  }
}

// Which of its numbers spread_sum() leaves at the front in this thread.
template <int COUNT, int WIDTH, int FIRST>
DEVICE int owned_sum(int lane) {
  int first = 0;
#pragma unroll
  for (int mask = FIRST, count = COUNT / 2; mask < WIDTH * FIRST; mask *= 2, count /= 2) {
    if (lane & mask) first += count;
  }
  return first;
}
