// Gradients of normed = norm(total) * weight + bias, of a map, with an offset for each channel or
// not, or of a sum of a branch and the residual stream, over the channels.
//
// LANES threads of a warp have a row, each CHUNKS times 4 neighbouring channels: there are no
// barriers between rows, and the loads of many warps are under way together.
//
// Given to the compiler: NUMBER, the type of the norm and of the branch; TOTAL, that of what is
// normalised; RESIDUAL, that of the stream's gradient, if HAS_RESIDUAL; CENTERED, whether the mean is
// subtracted (LayerNorm) or not (RMSNorm); HAS_OFFSET; LANES; CHUNKS; WARPS of a block; BLOCKS that a
// multiprocessor has to have room for.
#include "device.cuh"

constexpr int CHANNELS = 4 * LANES * CHUNKS;
constexpr int ROWS = 32 / LANES;  // of a warp, together

typedef float Row[CHUNKS][4];  // a thread's part of it

// Shapes: all (rows, D) but weight and offset (D,); grad_total and grad_residual are null without a
// residual. Partial sums, to be summed over their first axis: grad_weight and, if there is one,
// grad_bias and grad_offset (grid.x, D).
struct Norm {
  const NUMBER* grad_normed;
  const float* grad_total;
  const TOTAL* total;
  const float *weight, *offset;
  NUMBER* grad_branch;
  RESIDUAL* grad_residual;
  float *grad_weight, *grad_bias, *grad_offset;
  int rows;
  float eps;
};

// A thread's channels of chunk number `i`.
DEVICE int channel(int i) { return (i * LANES + (int)threadIdx.x % LANES) * 4; }

template <typename T>
DEVICE void load(Numbers<T, 4> (&out)[CHUNKS], const T* map, int row, bool there) {
  const T* from = map + (long long)row * CHANNELS;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    if (there) {
      out[i].load(from + channel(i));
    } else {
      out[i].clear();
    }
  }
}

template <typename T>
DEVICE void store(T* map, const Row& values, int row) {
  T* to = map + (long long)row * CHANNELS;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    Pack<T, 4> pack;
#pragma unroll
    for (int c = 0; c < 4; ++c) pack.at[c] = from_float<T>(values[i][c]);
    *reinterpret_cast<Pack<T, 4>*>(to + channel(i)) = pack;
  }
}

// Mean, over the channels, of what a function makes of each of a thread's.
template <typename Function>
DEVICE float mean(Function function) {
  float sum = 0.f;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
#pragma unroll
    for (int c = 0; c < 4; ++c) sum += function(i, c);
  }
#pragma unroll
  for (int mask = 1; mask < LANES; mask *= 2) sum += exchange(sum, mask);
  return sum * (1.f / CHANNELS);
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
DEVICE float normalise(Row& x, float eps) {
  if (CENTERED) {
    float middle = mean([&](int i, int c) { return x[i][c]; });
    for_each([&](int i, int c) { x[i][c] -= middle; });
  }
  float scale = rsqrt_approx(mean([&](int i, int c) { return x[i][c] * x[i][c]; }) + eps);
  for_each([&](int i, int c) { x[i][c] *= scale; });
  return scale;
}

// A thread's sums over all its rows.
struct Sums {
  Row weight, bias, offset;
};

DEVICE void walk_row(const Norm& given, const Row& weight, Sums& sums, int row, bool there) {
  Numbers<TOTAL, 4> total[CHUNKS];
  Numbers<NUMBER, 4> upstream[CHUNKS];
  Numbers<float, 4> others[CHUNKS];
  load(total, given.total, row, there);
  load(upstream, given.grad_normed, row, there);
  if (HAS_RESIDUAL) load(others, given.grad_total, row, there);
  Row y, grad;
#pragma unroll
  for (int i = 0; i < CHUNKS; ++i) {
    total[i].get(y[i]);
    upstream[i].get(grad[i]);
  }
  if (HAS_OFFSET) for_each([&](int i, int c) { y[i][c] += given.offset[channel(i) + c]; });
  float deviation = normalise(y, given.eps);
  for_each([&](int i, int c) {
    sums.weight[i][c] += grad[i][c] * y[i][c];
    if (CENTERED) sums.bias[i][c] += grad[i][c];
    grad[i][c] *= weight[i][c];
  });
  float along = mean([&](int i, int c) { return grad[i][c] * y[i][c]; });
  float middle = CENTERED ? mean([&](int i, int c) { return grad[i][c]; }) : 0.f;
  for_each([&](int i, int c) {
    grad[i][c] = (grad[i][c] - y[i][c] * along - middle) * deviation;
    if (HAS_OFFSET) sums.offset[i][c] += grad[i][c];
  });
  if (HAS_RESIDUAL) {
    for_each([&](int i, int c) { grad[i][c] += others[i].raw.at[c]; });
    if (there) store(given.grad_residual, grad, row);
  }
  if (there) store(given.grad_branch, grad, row);
}

// The sums of a block, which has `shared` for those of its warps: to row blockIdx.x of `to`.
DEVICE void store_sums(float* to, float (*shared)[CHANNELS], Row& sums) {
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for_each([&](int i, int c) {
#pragma unroll
    for (int mask = LANES; mask < 32; mask *= 2) sums[i][c] += exchange(sums[i][c], mask);
    if (lane < LANES) shared[warp][channel(i) + c] = sums[i][c];
  });
  __syncthreads();
#pragma unroll 1
  for (int c = threadIdx.x; c < CHANNELS; c += 32 * WARPS) {
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) total += shared[i][c];
    to[(long long)blockIdx.x * CHANNELS + c] = total;
  }
  __syncthreads();
}

// Grid: any number of blocks, which share out the rows.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS) norm_backward(Norm given) {
  typedef float Line[CHANNELS];
  SHARED(Line, shared);
  Row weight;
  for_each([&](int i, int c) { weight[i][c] = given.weight[channel(i) + c]; });
  Sums sums = {};
  int first = ((int)blockIdx.x * WARPS + (int)threadIdx.x / 32) * ROWS;
  for (; first < given.rows; first += gridDim.x * WARPS * ROWS) {
    int row = first + (int)threadIdx.x % 32 / LANES;
    walk_row(given, weight, sums, row, row < given.rows);
  }
  store_sums(given.grad_weight, shared, sums.weight);
  if (CENTERED) store_sums(given.grad_bias, shared, sums.bias);
  if (HAS_OFFSET) store_sums(given.grad_offset, shared, sums.offset);
}
