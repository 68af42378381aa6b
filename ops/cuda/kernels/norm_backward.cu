// Gradients of normed = norm(total) * weight + bias, of a map, with an offset for each channel or
// not, or of a sum of a branch and the residual stream, over the channels.
//
// Some threads of a warp, its lanes, have a row, each CHUNKS times 4 neighbouring channels: there are
// no barriers between rows, and the loads of many warps are under way together.
//
// Given to the compiler: NUMBER, the type of the norm and of the branch; TOTAL, that of what is
// normalised; HAS_RESIDUAL; CENTERED, whether the mean is subtracted (LayerNorm) or not (RMSNorm);
// CHUNKS; WARPS of a block; BLOCKS that a multiprocessor has to have room for.
#include "device.cuh"

typedef float Row[CHUNKS][4];  // a thread's part of it

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

// What all rows have in common: the threads that have one, its channels, and a channel's share of a
// mean.
struct Shape {
  int lanes, channels;
  float share;

  DEVICE explicit Shape(int lanes)
      : lanes(lanes), channels(4 * lanes * CHUNKS), share(1.f / channels) {}

  // A thread's channels of chunk number `i`.
  DEVICE int channel(int i) const { return (i * lanes + (threadIdx.x & (lanes - 1))) * 4; }
};

template <typename T>
DEVICE void load(Numbers<T, 4> (&out)[CHUNKS], const T* map, const Shape& shape, int row,
                 bool there) {
  const T* from = map + (long long)row * shape.channels;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    if (there) {
      out[i].load(from + shape.channel(i));
    } else {
      out[i].clear();
    }
  }
}

template <typename T>
DEVICE void store(T* map, const Row& values, const Shape& shape, int row) {
  T* to = map + (long long)row * shape.channels;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    Pack<T, 4> pack;
#pragma unroll
    for (int c = 0; c < 4; ++c) pack.at[c] = from_float<T>(values[i][c]);
    *reinterpret_cast<Pack<T, 4>*>(to + shape.channel(i)) = pack;
  }
}

// Mean, over the channels, of what a function makes of each of a thread's.
template <typename Function>
DEVICE float mean(const Shape& shape, Function function) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
#pragma unroll
    for (int c = 0; c < 4; ++c) sum += function(i, c);
  }
#pragma unroll
  for (int mask = 1; mask < 32; mask *= 2) {
    if (mask < shape.lanes) sum += exchange(sum, mask);
  }
  return sum * shape.share;
}

template <typename Function>
DEVICE void for_each(Function function) {
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
#pragma unroll
    for (int c = 0; c < 4; ++c) function(i, c);
  }
}

// x less its mean, over its deviation; returns one over that.
DEVICE float normalise(Row& x, const Shape& shape, float eps) {
  if (CENTERED) {
    float middle = mean(shape, [&](int i, int c) { return x[i][c]; });
    for_each([&](int i, int c) { x[i][c] -= middle; });
  }
  float square = mean(shape, [&](int i, int c) { return x[i][c] * x[i][c]; });
  float scale = rsqrt_approx(square + eps);
  for_each([&](int i, int c) { x[i][c] *= scale; });
  return scale;
}

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
