// Sums over the rows of several matrices, in one launch: what kernels leave as partial sums.
//
// Given to the compiler: PARTS, the most matrices of a launch; WARPS of a block.
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

// Rows under way together.
constexpr int DEPTH = 8;

DEVICE float sum_column(const Part& part, int column, int first_row) {
  float sums[DEPTH] = {};
  for (int row = first_row; row < part.rows; row += WARPS * DEPTH) {
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) {
      int which = row + i * WARPS;
      if (which < part.rows) sums[i] += part.from[(long long)which * part.columns + column];
    }
  }
  float total = 0.f;
#pragma unroll
  for (int i = 0; i < DEPTH; ++i) total += sums[i];
  return total;
}

// Grid: (blocks of 32 columns of all parts). The warps of a block share out the rows; sums are in
// the same order whatever the timing.
extern "C" __global__ void __launch_bounds__(WARPS * 32) sum_rows(Parts parts, int count) {
  SHARED(float, sums);
  int which = 0;
  while (which + 1 < count && (int)blockIdx.x >= parts.at[which + 1].first_block) ++which;
  const Part& part = parts.at[which];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int column = ((int)blockIdx.x - part.first_block) * 32 + lane;
  bool there = column < part.columns;
  sums[warp * 32 + lane] = there ? sum_column(part, column, warp) : 0.f;
  __syncthreads();
  if (warp > 0 || !there) return;
  float total = 0.f;
#pragma unroll
  for (int i = 0; i < WARPS; ++i) total += sums[i * 32 + lane];
  part.to[column] = total;
}
