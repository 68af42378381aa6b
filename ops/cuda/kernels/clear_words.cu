// Zeros: what blocks tell each other by has to begin somewhere.
//
// Given to the compiler: THREADS of a block.
#include "device.cuh"

// Grid: (any number of blocks, which share out the words).
extern "C" __global__ void __launch_bounds__(THREADS) clear_words(unsigned* words, int count) {
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < count; i += gridDim.x * THREADS) words[i] = 0;
}
