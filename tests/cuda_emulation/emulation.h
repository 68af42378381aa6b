// Threads of a block as fibers, which take turns at barriers: what kernels' emulation needs of it.
//
// Compiled once (emulation.cpp), not with every kernel: it takes the compiler longer than many.
#pragma once

#include <cstddef>

struct Index {
  int x = 0, y = 0;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
void __syncwarp();

namespace emulation {

// What a thread contributes to a product of matrices.
struct Words {
  unsigned a[4], b[2];
};

extern float *exchanged, *shared;
extern Words* fragments;

void begin_copy(void* to, const void* from, int bytes, bool there);
void commit_copies();
void await_copies(int groups);

// Call a kernel with pointers to its arguments, by every thread of every block.
typedef void Kernel(void** arguments);
void launch(Index grid, int threads, int shared_bytes, Kernel* kernel, void** arguments);

}  // namespace emulation
