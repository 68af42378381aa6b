// Products of small matrices by a warp together, on the tensor cores.
//
// The 32 threads hold fragments. Where g is a thread's lane / 4 and t its lane % 4, it has
// of A (16, 16), two to a word: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), and each's right
//   neighbour;
// of B (16, 8), two to a word: (2t, g), (2t + 8, g), and each's lower neighbour;
// of C (16, 8): (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
#pragma once

#include "device.cuh"

// 16 bytes, which are loaded and stored at once.
typedef Pack<unsigned, 4> Quad;

#ifndef MMV2M_HOST

template <typename T>
DEVICE unsigned pack_two(float low, float high);
template <>
DEVICE unsigned pack_two<bfloat16>(float low, float high) {
  unsigned y;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}
template <>
DEVICE unsigned pack_two<float16>(float low, float high) {
  unsigned y;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
  return y;
}

#define MULTIPLY(T, NAME)                                                                       \
  template <>                                                                                   \
  DEVICE void multiply<T>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {    \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." NAME "." NAME ".f32 "                 \
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"              \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));               \
  }

// C += A @ B, of numbers of type T.
template <typename T>
DEVICE void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
MULTIPLY(bfloat16, "bf16")
MULTIPLY(float16, "f16")
#undef MULTIPLY

// The words of A, of a matrix in shared memory whose rows are `row` numbers apart and aligned to 16 bytes.
template <typename T>
DEVICE void load_words(unsigned (&a)[4], const T* matrix, int row) {
  int lane = threadIdx.x % 32;  // says where a row of one of four matrices (8, 8) is
  const T* mine = matrix + lane % 16 * row + lane / 16 * 8;
  unsigned at = (unsigned)__cvta_generic_to_shared(mine);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
               : "r"(at)
               : "memory");
}

// Transposes a matrix (8, 8), two to a word: from (g, 2t) and its right neighbour in each thread to
// (2t, g) and its lower neighbour.
DEVICE unsigned transpose(unsigned two) {
  unsigned y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(two));
  return y;
}

#endif

// The two numbers of a word; of bfloat16 for one instruction each.
template <typename T>
DEVICE void unpack_two(float (&out)[2], unsigned two) {
  out[0] = to_float(T{(unsigned short)two});
  out[1] = to_float(T{(unsigned short)(two >> 16)});
}
template <>
DEVICE void unpack_two<bfloat16>(float (&out)[2], unsigned two) {
  out[0] = from_bits(two << 16);
  out[1] = from_bits(two & 0xffff0000u);
}
