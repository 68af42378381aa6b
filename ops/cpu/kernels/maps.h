// Maps on strides, lanes on them, and parameters in vectors.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <optional>
#include <vector>

#include "vectors.h"

namespace mmv2m {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Buffer = std::vector<float>;

// Directions are numbers: bit 0 says whether a walk goes backwards, bit 1 whether along H.
struct Walk {
  bool reverse, down;
  int64_t lanes, steps;

  Walk(int64_t direction, int64_t height, int64_t width)
      : reverse(direction & 1),
        down(direction & 2),
        lanes(down ? width : height),
        steps(down ? height : width) {}
};

// A lane in the order of a walk.
template <typename T>
struct Lane {
  T* start;
  int64_t stride;

  T* at(int64_t step) const { return start + step * stride; }
  explicit operator bool() const { return start != nullptr; }
};

// A (B, H, W, channels) map or K of them, (K, B, H, W, channels). Channels lie side by side.
template <typename T>
struct Maps {
  T* data = nullptr;
  int64_t map = 0, image = 0, row = 0, column = 0;

  Maps() = default;
  explicit Maps(const Tensor& t) : data(t.data_ptr<std::remove_const_t<T>>()) {
    TORCH_CHECK(t.numel() == 0 || t.size(-1) == 1 || t.stride(-1) == 1, "channels have gaps");
    map = t.dim() == 5 ? t.stride(0) : 0;
    image = t.stride(-4), row = t.stride(-3), column = t.stride(-2);
  }
  explicit Maps(const OptionalTensor& t) {
    if (t) *this = Maps(*t);
  }

  explicit operator bool() const { return data != nullptr; }

  Lane<T> lane(const Walk& walk, int64_t k, int64_t b, int64_t lane) const {
    if (data == nullptr) return {nullptr, 0};
    const int64_t stride = walk.down ? row : column;
    T* first = data + k * map + b * image + lane * (walk.down ? column : row);
    return {walk.reverse ? first + (walk.steps - 1) * stride : first,
            walk.reverse ? -stride : stride};
  }
};

// (E, N) parameters, or (E,) with N = 1, as vectors of channels: (vectors, N, WIDTH).
inline Buffer pack(const Tensor& parameter, float factor = 1) {
  const int64_t channels = parameter.size(0), states = parameter.dim() == 2 ? parameter.size(1) : 1;
  const Tensor exact = parameter.to(at::kFloat).contiguous();
  const float* from = exact.const_data_ptr<float>();
  Buffer packed(count_vectors(channels) * states * WIDTH, 0.f);
  for (int64_t e = 0; e < channels; ++e)
    for (int64_t n = 0; n < states; ++n)
      packed[(e / WIDTH * states + n) * WIDTH + e % WIDTH] = factor * from[e * states + n];
  return packed;
}

inline Buffer pack(const OptionalTensor& parameter) {
  return parameter ? pack(*parameter) : Buffer();
}

// The opposite of pack: adds up the packed sums of all chunks, in their order.
inline Tensor unpack_sum(const std::vector<Buffer>& chunks, at::IntArrayRef shape) {
  Tensor result = at::zeros(shape, at::kFloat);
  const int64_t channels = shape[0], states = shape.size() == 2 ? shape[1] : 1;
  float* to = result.data_ptr<float>();
  for (const Buffer& chunk : chunks)
    for (int64_t e = 0; e < channels; ++e)
      for (int64_t n = 0; n < states; ++n)
        to[e * states + n] += chunk[(e / WIDTH * states + n) * WIDTH + e % WIDTH];
  return result;
}

// Runs f(chunk, begin, end) on as many equal chunks of [0, count) as there are threads, so that
// sums of chunks depend on nothing but the number of threads.
inline int64_t count_chunks(int64_t count) {
  return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), count));
}

template <typename F>
void for_chunks(int64_t count, const F& f) {
  const int64_t chunks = count_chunks(count);
  at::parallel_for(0, chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) f(c, count * c / chunks, count * (c + 1) / chunks);
  });
}

// Map, image and number of each lane of all maps that are walked so.
inline std::vector<std::array<int64_t, 3>> list_lanes(const std::vector<Walk>& walks,
                                                      int64_t batch) {
  std::vector<std::array<int64_t, 3>> lanes;
  for (int64_t k = 0; k < int64_t(walks.size()); ++k)
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t lane = 0; lane < walks[k].lanes; ++lane) lanes.push_back({k, b, lane});
  return lanes;
}

// Whether the chunks of [0, count) are of one size, or nearly so.
inline bool is_even(int64_t count) {
  const int64_t chunks = at::get_num_threads(), largest = (count + chunks - 1) / chunks;
  return 10 * count >= 9 * chunks * largest;
}

// Runs f(image, first, last) on the part of each image in [begin, end), where every image has `size`
// places.
template <typename F>
void for_images(int64_t size, int64_t begin, int64_t end, const F& f) {
  while (begin < end) {
    const int64_t first = begin % size, last = std::min(size, first + end - begin);
    f(begin / size, first, last);
    begin += last - first;
  }
}

}  // namespace mmv2m
