// normed = norm(total) * weight + bias over the channels, where total is a map, with an offset for
// each channel or not, or residual + factor * branch.
//
// Given to the compiler: NUMBER, the type of the branch and of the norm; CENTERED and CHUNKS, see
// norm.cuh; WARPS of a block.
#include "norm.cuh"

// Shapes: all (rows, D) but weight, bias and offset (D,). Of both residuals, one in float32 and one in
// the branch's type, one at most is there, and with it total; an offset is for a map alone, and may be
// null. So may be a factor for the branch of each image, of image_rows rows, and without CENTERED the
// bias is. `lanes` is a power of two.
struct Norm {
  const NUMBER* branch;
  const float* residual;
  const NUMBER* residual_like_branch;
  const float *weight, *bias, *offset, *factor;
  NUMBER* normed;
  float* total;
  int rows, image_rows, lanes;
  float eps;
};

typedef Numbers<NUMBER, 4> Branch[CHUNKS];

// x = residual + factor * branch, of which a thread has its part of a row; stored as total.
template <typename T>
DEVICE void add_residual(Row& x, const Branch& branch, const T* residual, const Norm& given,
                         const Shape& shape, int row, bool there) {
  Numbers<T, 4> others[CHUNKS];
  load(others, residual, shape, row, there);
  float factor = there && given.factor ? given.factor[row / given.image_rows] : 1.f;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    float other[4];
    branch[i].get(x[i]);
    others[i].get(other);
#pragma unroll
    for (int c = 0; c < 4; ++c) x[i][c] = x[i][c] * factor + other[c];
  }
  if (there) store(given.total, x, shape, row);
}

DEVICE void add_offset(Row& x, const Branch& branch, const float* offset, const Shape& shape) {
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    float shift[4] = {};
    branch[i].get(x[i]);
    if (offset) read_numbers(shift, offset + shape.channel(i));
#pragma unroll
    for (int c = 0; c < 4; ++c) x[i][c] += shift[c];
  }
}

// x * weight + bias, in the place of x.
DEVICE void scale_and_shift(Row& x, const Norm& given, const Shape& shape) {
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    float scale[4], shift[4] = {};
    read_numbers(scale, given.weight + shape.channel(i));
    if (CENTERED) read_numbers(shift, given.bias + shape.channel(i));
#pragma unroll
    for (int c = 0; c < 4; ++c) x[i][c] = x[i][c] * scale[c] + shift[c];
  }
}

// Grid: as many blocks as have all rows, 32 / lanes a warp.
extern "C" __global__ void __launch_bounds__(WARPS * 32) norm_forward(Norm given) {
  Shape shape(given.lanes);
  int warp = (int)blockIdx.x * WARPS + (int)threadIdx.x / 32;
  int row = warp * (32 / shape.lanes) + (int)threadIdx.x % 32 / shape.lanes;
  bool there = row < given.rows;  // the others exchange numbers with those that are
  Branch branch;
  load(branch, given.branch, shape, row, there);
  Row x;
  if (given.residual) {
    add_residual(x, branch, given.residual, given, shape, row, there);
  } else if (given.residual_like_branch) {
    add_residual(x, branch, given.residual_like_branch, given, shape, row, there);
  } else {
    add_offset(x, branch, given.offset, shape);
  }
  normalise(x, shape, given.eps);
  scale_and_shift(x, given, shape);
  if (there) store(given.normed, x, shape, row);
}
