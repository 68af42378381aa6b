// What works on single tokens, on tensors: the gate and the norm.
#pragma once

#include "gate.h"
#include "norm.h"
#include "types.h"

namespace mmv2m {

// Writes to `y`, like `x` and `z`.
inline void gate_forward(const Tensor& x, const Tensor& z, const Tensor& y) {
  for_type(x, [&](auto one) {
    using T = decltype(one);
    gate_rows(Rows<const T>(x), Rows<const T>(z), Rows<T>(y));
  });
}

// Writes the gradients, and what gate_forward does if there is a `y`.
inline void gate_backward(const Tensor& grad_y, const Tensor& x, const Tensor& z,
                          const Tensor& grad_x, const Tensor& grad_z, const OptionalTensor& y) {
  for_type(x, [&](auto one) {
    using T = decltype(one);
    gate_rows_backward(Rows<const T>(grad_y), Rows<const T>(x), Rows<const T>(z), Rows<T>(grad_x),
                       Rows<T>(grad_z), Rows<T>(y));
  });
}

// Writes to `normed`, like `branch`, and `total`, in float32.
inline void add_norm_forward(const Tensor& branch, const Tensor& residual, const Tensor& weight,
                             const OptionalTensor& bias, const OptionalTensor& factor, double eps,
                             const Tensor& normed, const Tensor& total) {
  for_types(branch, residual, [&](auto one, auto other) {
    using T = decltype(one);
    using R = decltype(other);
    const Rows<const T> rows(branch);
    const Norm norm(rows.channels, rows.count, weight, bias, factor, eps);
    add_norm_rows(norm, rows, Rows<const R>(residual), Rows<T>(normed), Rows<float>(total));
  });
}

// Writes the gradients of the maps; returns those of weight and bias, this empty without one.
inline std::vector<Tensor> add_norm_backward(const Tensor& grad_normed, const Tensor& grad_total,
                                             const Tensor& total, const Tensor& weight,
                                             const OptionalTensor& bias,
                                             const OptionalTensor& factor, double eps,
                                             const Tensor& grad_branch,
                                             const Tensor& grad_residual) {
  Tensor grad_weight, grad_bias;
  for_types(grad_branch, grad_residual, [&](auto one, auto other) {
    using T = decltype(one);
    using R = decltype(other);
    const Rows<const float> rows(total);
    const Norm norm(rows.channels, rows.count, weight, bias, factor, eps);
    const auto sums = add_norm_rows_backward(norm, Rows<const T>(grad_normed),
                                             Rows<const float>(grad_total), rows,
                                             Rows<T>(grad_branch), Rows<R>(grad_residual));
    grad_weight = unpack_sum(each(sums, &NormSums::weight), weight.sizes());
    if (bias) grad_bias = unpack_sum(each(sums, &NormSums::bias), bias->sizes());
  });
  return {grad_weight, grad_bias};
}

}  // namespace mmv2m
