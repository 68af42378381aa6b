// Sums over the rows of several matrices, in one launch: what kernels leave as partial sums.
//
// Given to the compiler: PARTS, the most matrices of a launch; WARPS of a block; DEPTH, rows under way
// together.
#include "device.cuh"

// `from` is (rows, columns), `to` (columns,); the part's first block along the grid.
struct Part {
  const float* from;
  float* to;
  int rows, columns, first_block;
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

// Grid: (blocks of all parts, of 32 columns for every block; or for every warp, where there are no more
// than DEPTH rows). The warps of a block share out the rows, if there are more; sums are in the same
// order whatever the timing.
extern "C" __global__ void __launch_bounds__(WARPS * 32) sum_rows(Parts parts, int count) {
  SHARED(float, sums);
  int which = 0;
  while (which + 1 < count && (int)blockIdx.x >= parts.at[which + 1].first_block) ++which;
  const Part& part = parts.at[which];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  bool alone = part.rows <= DEPTH;
  int block = (int)blockIdx.x - part.first_block;
  int column = (alone ? block * WARPS + warp : block) * 32 + lane;
  bool there = column < part.columns;
  if (alone) {
    if (there) part.to[column] = sum_column(part, column, 0, 1);
    return;
  }
  sums[warp * 32 + lane] = there ? sum_column(part, column, warp, WARPS) : 0.f;
  __syncthreads();
  if (warp > 0 || !there) return;
  float total = 0.f;
#pragma unroll
  for (int i = 0; i < WARPS; ++i) total += sums[i * 32 + lane];
  part.to[column] = total;
}
