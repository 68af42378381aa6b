// Sums over the rows of several matrices, in one launch: what kernels leave as partial sums.
//
// Given to the compiler: PARTS, the most matrices of a launch; THREADS of a block; DEPTH, rows under way
// together.
#include "device.cuh"

// `from` is (rows, columns), `to` (columns,); the columns of a block, a power of two, at most THREADS; the
// part's first block along the grid.
struct Part {
  const float* from;
  float* to;
  int rows, columns, width, first_block;
};

struct Parts {
  Part at[PARTS];
};

// Of every `step`-th row.
DEVICE float sum_column(const Part& part, int column, int first_row, int step) {
  float sums[DEPTH] = {};
  for (int row = first_row; row < part.rows; row += step * DEPTH) {
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) {
      int which = row + i * step;
      if (which < part.rows) sums[i] += part.from[(long long)which * part.columns + column];
    }
  }
  float total = 0.f;
#pragma unroll
  for (int i = 0; i < DEPTH; ++i) total += sums[i];
  return total;
}

// Grid: (blocks of all parts). The threads of a block that have the same column share out its rows; sums are
// in the same order whatever the timing.
extern "C" __global__ void __launch_bounds__(THREADS) sum_rows(Parts parts, int count) {
  SHARED(float, sums);
  int which = 0;
  while (which + 1 < count && (int)blockIdx.x >= parts.at[which + 1].first_block) ++which;
  const Part& part = parts.at[which];
  int width = part.width, sharing = THREADS / width;
  int mine = threadIdx.x % width, share = threadIdx.x / width;
  int column = ((int)blockIdx.x - part.first_block) * width + mine;
  bool there = column < part.columns;
  float total = there ? sum_column(part, column, share, sharing) : 0.f;
  if (sharing > 1) {
    sums[threadIdx.x] = total;
    __syncthreads();
    if (share > 0) return;
#pragma unroll 8
    for (int i = 1; i < sharing; ++i) total += sums[i * width + mine];
  }
  if (there) part.to[column] = total;
}
