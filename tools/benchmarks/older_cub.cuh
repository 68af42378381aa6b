// Names that CUB had before its version 3, which comes with CUDA 13: the scans of 2DMamba and VMamba
// use them.
#pragma once
#include <cub/util_ptx.cuh>

#if CUB_VERSION >= 300000
#define CUB_MAX(a, b) ((a) > (b) ? (a) : (b))

namespace cub {

__device__ __forceinline__ unsigned int LaneId() {
  unsigned int lane;
  asm("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

__device__ __forceinline__ void CTA_SYNC() { __syncthreads(); }

template <int THREADS, int ARCH>
__device__ __forceinline__ unsigned int WarpMask(unsigned int warp) {
  return WarpMask<THREADS>(warp);
}

}  // namespace cub
#endif
