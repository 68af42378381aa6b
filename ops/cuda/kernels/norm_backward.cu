// Gradients of normed = norm(total) * weight + bias, of a map, with an offset for each channel or
// not, or of a sum of a branch and the residual stream, over the channels.
//
// Given to the compiler: NUMBER, the type of the norm and of the branch; TOTAL, that of what is
// normalised; HAS_RESIDUAL; CENTERED and CHUNKS, see norm.cuh; WARPS of a block; BLOCKS that a
// multiprocessor has to have room for.
#include "norm.cuh"

// Shapes: all (rows, D) but weight and offset (D,). Without a residual, grad_total and the stream's
// gradient are null; with one, this is in float32 or in the branch's type, and the other null. `lanes`
// is a power of two. An offset is for a map alone, and may be null; so may a factor for the branch of
// each image, of image_rows rows. Partial sums, to be summed over
// their first axis: grad_weight and, if there is one, grad_bias and grad_offset (grid.x, D).
struct Norm {
  const NUMBER* grad_normed;
  const float* grad_total;
  const TOTAL* total;
  const float *weight, *offset, *factor;
  NUMBER* grad_branch;
  float* grad_residual;
  NUMBER* grad_residual_like_branch;
  float *grad_weight, *grad_bias, *grad_offset;
  int rows, image_rows, lanes;
  float eps;
};

// A thread's sums over all its rows.
struct Sums {
  Row weight, bias, offset;
};

DEVICE void walk_row(const Norm& given, const Shape& shape, const Row& weight, Sums& sums, int row,
                     bool there) {
  Numbers<TOTAL, 4> total[CHUNKS];
  Numbers<NUMBER, 4> upstream[CHUNKS];
  Numbers<float, 4> others[CHUNKS];
  load(total, given.total, shape, row, there);
  load(upstream, given.grad_normed, shape, row, there);
  if (HAS_RESIDUAL) load(others, given.grad_total, shape, row, there);
  Row y, grad;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    total[i].get(y[i]);
    upstream[i].get(grad[i]);
  }
  if (!HAS_RESIDUAL && given.offset) {
    for_each([&](int i, int c) { y[i][c] += given.offset[shape.channel(i) + c]; });
  }
  float deviation = normalise(y, shape, given.eps);
  for_each([&](int i, int c) {
    sums.weight[i][c] += grad[i][c] * y[i][c];
    if (CENTERED) sums.bias[i][c] += grad[i][c];
    grad[i][c] *= weight[i][c];
  });
  float along = mean(shape, [&](int i, int c) { return grad[i][c] * y[i][c]; });
  float middle = CENTERED ? mean(shape, [&](int i, int c) { return grad[i][c]; }) : 0.f;
  for_each([&](int i, int c) {
    grad[i][c] = (grad[i][c] - y[i][c] * along - middle) * deviation;
    if (!HAS_RESIDUAL) sums.offset[i][c] += grad[i][c];
  });
  if (HAS_RESIDUAL) {
    for_each([&](int i, int c) { grad[i][c] += others[i].raw.at[c]; });
    if (there && given.grad_residual) store(given.grad_residual, grad, shape, row);
    NUMBER* other = given.grad_residual_like_branch;
    if (there && other) store(other, grad, shape, row);
  }
  if (HAS_RESIDUAL && given.factor && there) {
    float factor = given.factor[row / given.image_rows];
    for_each([&](int i, int c) { grad[i][c] *= factor; });
  }
  if (there) store(given.grad_branch, grad, shape, row);
}

// The sums of a block, which has `shared` for those of its warps: to row blockIdx.x of `to`.
DEVICE void store_sums(float* to, float* shared, const Shape& shape, Row& sums) {
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for_each([&](int i, int c) {
#pragma unroll 1
    for (int mask = shape.lanes; mask < 32; mask *= 2) sums[i][c] += exchange(sums[i][c], mask);
    if (lane < shape.lanes) shared[warp * shape.channels + shape.channel(i) + c] = sums[i][c];
  });
  __syncthreads();
#pragma unroll 1
  for (int c = threadIdx.x; c < shape.channels; c += 32 * WARPS) {
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) total += shared[i * shape.channels + c];
    to[(long long)blockIdx.x * shape.channels + c] = total;
  }
  __syncthreads();
}

// Grid: any number of blocks, which share out the rows.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS) norm_backward(Norm given) {
  SHARED(float, shared);
  Shape shape(given.lanes);
  Row weight;
  for_each([&](int i, int c) { weight[i][c] = given.weight[shape.channel(i) + c]; });
  Sums sums = {};
  int rows = 32 / shape.lanes;  // of a warp, together
  int own = (int)threadIdx.x % 32 / shape.lanes;
  int first = ((int)blockIdx.x * WARPS + (int)threadIdx.x / 32) * rows;
  for (; first < given.rows; first += gridDim.x * WARPS * rows) {
    walk_row(given, shape, weight, sums, first + own, first + own < given.rows);
  }
  store_sums(given.grad_weight, shared, shape, sums.weight);
  if (CENTERED) store_sums(given.grad_bias, shared, shape, sums.bias);
  if (!HAS_RESIDUAL && given.offset) store_sums(given.grad_offset, shared, shape, sums.offset);
}
