// The residual sum of a branch and the stream, and its norm.
#pragma once

#include <cmath>

#include "rows.h"

namespace mmv2m {

// What both passes read. A mean is taken off for LayerNorm, which has a bias.
struct Norm {
  int64_t channels, vectors, image_rows;  // rows of an image
  Buffer weight, bias;
  const float* factor;
  bool centered;
  float eps;

  Norm(int64_t channels, int64_t rows, const Tensor& weight_, const OptionalTensor& bias_,
       const OptionalTensor& factor_, double eps)
      : channels(channels),
        vectors(count_vectors(channels)),
        image_rows(factor_ && factor_->numel() ? std::max<int64_t>(1, rows / factor_->numel()) : 1),
        weight(pack(weight_)),
        bias(pack(bias_)),
        factor(factor_ ? factor_->const_data_ptr<float>() : nullptr),
        centered(bias_.has_value()),
        eps(eps) {
    TORCH_CHECK(weight_.size(0) == channels, "shapes differ");
    TORCH_CHECK(!factor_ || factor_->is_contiguous(), "factors have gaps");
  }

  Vec factor_of(int64_t row) const { return Vec(factor ? factor[row / image_rows] : 1.f); }
  Vec weights(int64_t vector) const { return Vec::loadu(weight.data() + vector * WIDTH); }

  float mean(Vec total) const { return sum(total) / float(channels); }
};

// A row less its mean, times what makes its mean square 1.
struct Scaled {
  float mean = 0, scale = 0;

  template <typename F>
  Scaled(const Norm& norm, const Rows<F>& total, int64_t row) {
    if (norm.centered) {
      Vec all(0.f);
      for (int64_t v = 0; v < norm.vectors; ++v) all = all + total.read(row, v);
      mean = norm.mean(all);
    }
    Vec squares(0.f);
    for (int64_t v = 0; v < norm.vectors; ++v) {
      const Vec deviation = first(total.read(row, v) - Vec(mean), count_channels(norm.channels, v));
      squares = fmadd(deviation, deviation, squares);
    }
    scale = 1 / std::sqrt(norm.mean(squares) + norm.eps);
  }

  Vec of(Vec value) const { return (value - Vec(mean)) * Vec(scale); }
};

// Writes the sum and its norm. T is the branch's type, R that of the stream before.
template <typename T, typename R>
void add_norm_rows(const Norm& norm, const Rows<const T>& branch, const Rows<const R>& residual,
                   const Rows<T>& normed, const Rows<float>& total) {
  for_chunks(branch.count, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Vec factor = norm.factor_of(row);
      for (int64_t v = 0; v < norm.vectors; ++v)
        total.write(row, v, fmadd(factor, branch.read(row, v), residual.read(row, v)));
      const Scaled scaled(norm, total, row);
      for (int64_t v = 0; v < norm.vectors; ++v) {
        Vec value = scaled.of(total.read(row, v)) * norm.weights(v);
        if (norm.centered) value = value + Vec::loadu(norm.bias.data() + v * WIDTH);
        normed.write(row, v, value);
      }
    }
  });
}

// What a chunk of rows adds up.
struct NormSums {
  Buffer weight, bias;

  explicit NormSums(int64_t vectors) : weight(vectors * WIDTH), bias(vectors * WIDTH) {}
};

// Writes the gradients of branch and stream; returns the chunks' sums.
template <typename T, typename R>
std::vector<NormSums> add_norm_rows_backward(const Norm& norm, const Rows<const T>& grad_normed,
                                             const Rows<const float>& grad_total,
                                             const Rows<const float>& total,
                                             const Rows<T>& grad_branch,
                                             const Rows<R>& grad_residual) {
  std::vector<NormSums> sums(count_chunks(total.count), NormSums(norm.vectors));
  for_chunks(total.count, [&](int64_t chunk, int64_t begin, int64_t end) {
    float *of_weight = sums[chunk].weight.data(), *of_bias = sums[chunk].bias.data();
    for (int64_t row = begin; row < end; ++row) {
      const Scaled scaled(norm, total, row);
      Vec along(0.f), across(0.f);  // how the gradient changes the scale, and the mean
      for (int64_t v = 0; v < norm.vectors; ++v) {
        const Vec g = grad_normed.read(row, v), value = scaled.of(total.read(row, v));
        const Vec weighed = g * norm.weights(v);
        along = fmadd(weighed, value, along), across = across + weighed;
        fmadd(g, value, Vec::loadu(of_weight + v * WIDTH)).store(of_weight + v * WIDTH);
        (g + Vec::loadu(of_bias + v * WIDTH)).store(of_bias + v * WIDTH);
      }
      const Vec by_scale(-norm.mean(along)), by_mean(norm.centered ? norm.mean(across) : 0.f);
      for (int64_t v = 0; v < norm.vectors; ++v) {
        const Vec value = scaled.of(total.read(row, v));
        Vec g = fmadd(grad_normed.read(row, v), norm.weights(v), by_mean.neg());
        g = fmadd(fmadd(value, by_scale, g), Vec(scaled.scale), grad_total.read(row, v));
        grad_residual.write(row, v, g);
        grad_branch.write(row, v, g * norm.factor_of(row));
      }
    }
  });
  return sums;
}

}  // namespace mmv2m
