// From tensors to the types that the loops are made for, and back.
#pragma once

#include "maps.h"

namespace mmv2m {

// Calls f with a number of the type of `x`.
template <typename F>
void for_type(const Tensor& x, const F& f) {
  if (x.scalar_type() == at::kFloat) f(float());
  else if (x.scalar_type() == at::kBFloat16) f(at::BFloat16());
  else TORCH_CHECK(false, "maps are float32 or bfloat16, not ", x.scalar_type());
}

// The same for a map and the residual stream, which is float32 or like the map.
template <typename F>
void for_types(const Tensor& x, const Tensor& stream, const F& f) {
  for_type(x, [&](auto one) {
    if (stream.scalar_type() == x.scalar_type()) return f(one, one);
    TORCH_CHECK(stream.scalar_type() == at::kFloat, "a stream is float32, or like the map");
    f(one, float());
  });
}

template <typename F>
std::vector<Buffer> each(const std::vector<F>& chunks, Buffer F::*member) {
  std::vector<Buffer> result;
  for (const F& chunk : chunks) result.push_back(chunk.*member);
  return result;
}

}  // namespace mmv2m
