// The tokens of a map, whatever its axes are.
#pragma once

#include "maps.h"

namespace mmv2m {

// A (..., channels) tensor as rows that are equally far apart. Channels lie side by side.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t count = 0, channels = 0, stride = 0, vectors = 0;

  Rows() = default;
  explicit Rows(const Tensor& t)
      : data(t.data_ptr<std::remove_const_t<T>>()),
        channels(t.size(-1)),
        vectors(count_vectors(channels)) {
    if (t.numel() == 0) return;
    count = t.numel() / channels;
    const Tensor flat = t.view({count, channels});  // refuses rows that are not
    TORCH_CHECK(channels == 1 || flat.stride(1) == 1, "channels have gaps");
    stride = flat.stride(0);
  }
  explicit Rows(const OptionalTensor& t) {
    if (t) *this = Rows(*t);
  }

  explicit operator bool() const { return data != nullptr; }

  // A vector of channels of a row.
  T* at(int64_t row, int64_t vector) const { return data + row * stride + vector * WIDTH; }
  Vec read(int64_t row, int64_t vector) const {
    return load(at(row, vector), count_channels(channels, vector));
  }
  void write(int64_t row, int64_t vector, Vec value) const {
    store(at(row, vector), value, count_channels(channels, vector));
  }
};

}  // namespace mmv2m
