// Rows of maps in registers, and their norms over the channels.
//
// Some threads of a warp, its lanes, have a row, each CHUNKS times 4 neighbouring channels: there are
// no barriers between rows, and the loads of many warps are under way together.
//
// Given to the compiler: CHUNKS; CENTERED, whether the mean is subtracted (LayerNorm) or not (RMSNorm).
#pragma once

#include "device.cuh"

typedef float Row[CHUNKS][4];  // a thread's part of it

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
