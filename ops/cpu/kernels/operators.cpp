// Scans and convolutions of maps, gates and norms as operators of PyTorch: torch.ops.mmv2m_cpu.
//
// Maps are float32 or bfloat16, of any strides with channels side by side; parameters and sums are
// float32. What is optional is what the operators of mmv2m.ops leave out.

#include <torch/library.h>

#include "conv.h"
#include "coupled_backward.h"
#include "row_operators.h"
#include "scan_backward.h"
#include "scan_forward.h"
#include "types.h"

namespace mmv2m {
namespace {

// Writes to `y`, which is (K, B, H, W, E) as `x` is, or (B, H, W, E) for their sum; or adds to it.
// `z` gates each map, or the sum.
void scan_forward(const Tensor& x, const Tensor& delta, const Tensor& A, const OptionalTensor& B,
                  const OptionalTensor& C, const OptionalTensor& D, const OptionalTensor& z,
                  const OptionalTensor& bias, bool softplus, bool log_A, at::IntArrayRef directions,
                  const Tensor& y, bool adds) {
  for_type(x, [&](auto one) {
    using T = decltype(one);
    const Scan<T> scan(x, delta, A, B, C, D, z, bias, softplus, log_A, directions);
    scan_maps(scan, Maps<T>(y), y.dim() < x.dim(), adds);
  });
}

// The gradient of an optional argument is empty where that is left out.
std::vector<Tensor> scan_backward(const Tensor& grad_y, const Tensor& x, const Tensor& delta,
                                  const Tensor& A, const OptionalTensor& B, const OptionalTensor& C,
                                  const OptionalTensor& D, const OptionalTensor& z,
                                  const OptionalTensor& bias, bool softplus,
                                  at::IntArrayRef directions) {
  const auto like = [](const OptionalTensor& t) {
    return t ? at::empty(t->sizes(), t->options()) : Tensor();
  };
  const auto maps = [](const Tensor& t) { return t.defined() && t.dim() > 2; };
  Tensor grad_x = like(x), grad_delta = like(delta), grad_z = like(z);
  Tensor grad_B = like(B), grad_C = like(C), grad_A, grad_D, grad_bias;
  for_type(x, [&](auto one) {
    using T = decltype(one);
    const auto to = [&](const Tensor& t) { return maps(t) ? Maps<T>(t) : Maps<T>(); };
    const Scan<T> scan(x, delta, A, B, C, D, z, bias, softplus, false, directions);
    const ScanGradients<T> grads{to(grad_x),    to(grad_delta), to(grad_z),   to(grad_B),
                                 to(grad_C),    z.has_value(),  B.has_value(), C.has_value()};
    const auto sums = scan_maps_backward(scan, Maps<const T>(grad_y), grads);
    grad_A = unpack_sum(each(sums, &ScanSums::A), A.sizes());
    if (B && !maps(grad_B)) grad_B = unpack_sum(each(sums, &ScanSums::B), A.sizes());
    if (C && !maps(grad_C)) grad_C = unpack_sum(each(sums, &ScanSums::C), A.sizes());
    if (D) grad_D = unpack_sum(each(sums, &ScanSums::D), D->sizes());
    if (bias) grad_bias = unpack_sum(each(sums, &ScanSums::bias), bias->sizes());
  });
  return {grad_x, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_bias};
}

// Writes to `y`, like `x`. B and C are (K, B, H, W, 2 N); directions are two for each map.
void coupled_forward(const Tensor& x, const Tensor& delta, const Tensor& A, const Tensor& weight,
                     const Tensor& B, const Tensor& C, const OptionalTensor& D,
                     const OptionalTensor& bias, bool softplus, at::IntArrayRef directions,
                     const Tensor& y) {
  for_type(x, [&](auto one) {
    using T = decltype(one);
    const Coupled<T> scan(x, delta, A, weight, B, C, D, bias, softplus, directions);
    coupled_maps(scan, Maps<T>(y));
  });
}

// Gradients of the eight tensors; empty where an optional one is left out.
std::vector<Tensor> coupled_backward(const Tensor& grad_y, const Tensor& x, const Tensor& delta,
                                     const Tensor& A, const Tensor& weight, const Tensor& B,
                                     const Tensor& C, const OptionalTensor& D,
                                     const OptionalTensor& bias, bool softplus,
                                     at::IntArrayRef directions) {
  const auto like = [](const Tensor& t) { return at::empty(t.sizes(), t.options()); };
  Tensor grad_x = like(x), grad_delta = like(delta), grad_B = like(B), grad_C = like(C);
  Tensor grad_A = like(A), grad_weight = like(weight), grad_D, grad_bias;
  if (bias) grad_bias = like(*bias);
  for_type(x, [&](auto one) {
    using T = decltype(one);
    const Coupled<T> scan(x, delta, A, weight, B, C, D, bias, softplus, directions);
    const CoupledGradients<T> grads{Maps<T>(grad_x), Maps<T>(grad_B), Maps<T>(grad_C),
                                    {Maps<T>(grad_delta[0]), Maps<T>(grad_delta[1])}};
    const auto sums = coupled_maps_backward(scan, Maps<const T>(grad_y), grads);
    const auto total = [&](const auto& part, const Tensor& to) {
      std::vector<Buffer> chunks;
      for (const CoupledSums& chunk : sums) chunks.push_back(part(chunk));
      to.copy_(unpack_sum(chunks, to.sizes()));
    };
    for (int64_t k = 0; k < 2; ++k) {
      if (bias) total([k](const CoupledSums& s) { return s.bias[k]; }, grad_bias[k]);
      for (int64_t l = 0; l < 2; ++l) {
        total([k, l](const CoupledSums& s) { return s.A[k][l]; }, grad_A[k][l]);
        total([k, l](const CoupledSums& s) { return s.weight[k][l]; }, grad_weight[k][l]);
      }
    }
    if (D) grad_D = unpack_sum(each(sums, &CoupledSums::D), D->sizes());
  });
  return {grad_x, grad_delta, grad_A, grad_weight, grad_B, grad_C, grad_D, grad_bias};
}

Tensor conv_forward(const Tensor& x, const OptionalTensor& gate, const Tensor& weight,
                    const OptionalTensor& bias, at::IntArrayRef directions) {
  std::vector<int64_t> shape(1, directions.size());
  shape.insert(shape.end(), x.sizes().end() - 4, x.sizes().end());
  const Tensor y = at::empty(shape, x.options());
  for_type(x, [&](auto one) {
    using T = decltype(one);
    conv_maps(Conv<T>(x, gate, weight, bias, directions), Maps<T>(y));
  });
  return y;
}

// Writes the gradients of the maps, or adds to what there is; returns those of weight and bias.
std::vector<Tensor> conv_backward(const Tensor& grad_y, const Tensor& x, const OptionalTensor& gate,
                                  const Tensor& weight, const OptionalTensor& bias,
                                  at::IntArrayRef directions, const Tensor& grad_x,
                                  const OptionalTensor& grad_gate, bool adds_x, bool adds_gate) {
  Tensor grad_weight, grad_bias;
  for_type(x, [&](auto one) {
    using T = decltype(one);
    const Conv<T> conv(x, gate, weight, bias, directions);
    const auto sums = conv_maps_backward(conv, Maps<const T>(grad_y), Maps<T>(grad_x),
                                         Maps<T>(grad_gate), adds_x, adds_gate);
    grad_weight = unpack_sum(each(sums, &ConvSums::weight), weight.sizes());
    if (bias) grad_bias = unpack_sum(each(sums, &ConvSums::bias), bias->sizes());
  });
  return {grad_weight, grad_bias};
}

}  // namespace
}  // namespace mmv2m

TORCH_LIBRARY(mmv2m_cpu, library) {
  library.def(
      "scan_forward(Tensor x, Tensor delta, Tensor A, Tensor? B, Tensor? C, Tensor? D, Tensor? z, "
      "Tensor? bias, bool softplus, bool log_A, int[] directions, Tensor(a!) y, bool adds) -> ()");
  library.def(
      "scan_backward(Tensor grad_y, Tensor x, Tensor delta, Tensor A, Tensor? B, Tensor? C, "
      "Tensor? D, Tensor? z, Tensor? bias, bool softplus, int[] directions) -> Tensor[]");
  library.def(
      "coupled_forward(Tensor x, Tensor delta, Tensor A, Tensor weight, Tensor B, Tensor C, "
      "Tensor? D, Tensor? bias, bool softplus, int[] directions, Tensor(a!) y) -> ()");
  library.def(
      "coupled_backward(Tensor grad_y, Tensor x, Tensor delta, Tensor A, Tensor weight, Tensor B, "
      "Tensor C, Tensor? D, Tensor? bias, bool softplus, int[] directions) -> Tensor[]");
  library.def(
      "conv_forward(Tensor x, Tensor? gate, Tensor weight, Tensor? bias, int[] directions) -> "
      "Tensor");
  library.def(
      "conv_backward(Tensor grad_y, Tensor x, Tensor? gate, Tensor weight, Tensor? bias, "
      "int[] directions, Tensor(a!) grad_x, Tensor(b!)? grad_gate, bool adds_x, bool adds_gate) -> "
      "Tensor[]");
  library.def("gate_forward(Tensor x, Tensor z, Tensor(a!) y) -> ()");
  library.def(
      "gate_backward(Tensor grad_y, Tensor x, Tensor z, Tensor(a!) grad_x, Tensor(b!) grad_z, "
      "Tensor(c!)? y) -> ()");
  library.def(
      "add_norm_forward(Tensor branch, Tensor residual, Tensor weight, Tensor? bias, "
      "Tensor? factor, float eps, Tensor(a!) normed, Tensor(b!) total) -> ()");
  library.def(
      "add_norm_backward(Tensor grad_normed, Tensor grad_total, Tensor total, Tensor weight, "
      "Tensor? bias, Tensor? factor, float eps, Tensor(a!) grad_branch, Tensor(b!) grad_residual) "
      "-> Tensor[]");
}

TORCH_LIBRARY_IMPL(mmv2m_cpu, CPU, library) {
  library.impl("scan_forward", &mmv2m::scan_forward);
  library.impl("scan_backward", &mmv2m::scan_backward);
  library.impl("coupled_forward", &mmv2m::coupled_forward);
  library.impl("coupled_backward", &mmv2m::coupled_backward);
  library.impl("conv_forward", &mmv2m::conv_forward);
  library.impl("conv_backward", &mmv2m::conv_backward);
  library.impl("gate_forward", &mmv2m::gate_forward);
  library.impl("gate_backward", &mmv2m::gate_backward);
  library.impl("add_norm_forward", &mmv2m::add_norm_forward);
  library.impl("add_norm_backward", &mmv2m::add_norm_backward);
}
