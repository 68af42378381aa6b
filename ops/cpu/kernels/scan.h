// What the forward and the backward scan share.
#pragma once

#include "maps.h"

namespace mmv2m {

// The input or output projection: one a token, constant, or the constant 1. Scans read vectors: all
// lanes of a vector are alike where a token has one number for all channels.
template <typename T>
struct Side {
  Maps<const T> tokens;
  Buffer constant;  // (vectors, N, WIDTH)
  Buffer ones;

  Side(const OptionalTensor& projection, int64_t states) {
    if (projection && projection->dim() > 2) tokens = Maps<const T>(projection);
    else if (projection) constant = pack(*projection);
    else ones.assign(states * WIDTH, 1.f);
  }

  // Writes the projection of a token as vectors.
  static void expand(const T* token, int64_t states, float* room) {
    for (int64_t n = 0; n < states; ++n) Vec(float(token[n])).store(room + n * WIDTH);
  }

  // (N, WIDTH) of a vector of channels; `room` if there is one a token.
  const float* of(int64_t vector, int64_t states, const float* room) const {
    if (tokens) return room;
    return constant.empty() ? ones.data() : constant.data() + vector * states * WIDTH;
  }
};

// A in powers of two; with `is_log`, log(-A) is given.
inline Buffer pack_decays(const Tensor& A, bool is_log) {
  Buffer packed = pack(A);
  for (size_t i = 0; i < packed.size(); i += WIDTH) {
    const Vec value = Vec::loadu(packed.data() + i);
    ((is_log ? exp(value).neg() : value) * Vec(LOG2_E)).store(packed.data() + i);
  }
  return packed;
}

// The arguments of a scan of K maps, as the loops read them.
template <typename T>
struct Scan {
  int64_t maps, batch, height, width, channels, states, vectors;
  Maps<const T> x, delta, z;
  Side<T> B, C;
  Buffer A, D, bias;  // A in powers of two
  bool softplus;
  std::vector<Walk> walks;

  Scan(const Tensor& x_, const Tensor& delta_, const Tensor& A_, const OptionalTensor& B_,
       const OptionalTensor& C_, const OptionalTensor& D_, const OptionalTensor& z_,
       const OptionalTensor& bias_, bool softplus_, bool log_A, at::IntArrayRef directions)
      : maps(x_.size(0)),
        batch(x_.size(1)),
        height(x_.size(2)),
        width(x_.size(3)),
        channels(x_.size(4)),
        states(A_.size(1)),
        vectors(count_vectors(channels)),
        x(x_),
        delta(delta_),
        z(z_),
        B(B_, states),
        C(C_, states),
        A(pack_decays(A_, log_A)),
        D(pack(D_)),
        bias(pack(bias_)),
        softplus(softplus_) {
    TORCH_CHECK(int64_t(directions.size()) == maps, "a direction for each map");
    TORCH_CHECK(delta_.sizes() == x_.sizes() && A_.size(0) == channels, "shapes differ");
    for (int64_t direction : directions) walks.emplace_back(direction, height, width);
  }

  const float* decays(int64_t vector) const { return A.data() + vector * states * WIDTH; }

  // The time step before the softplus, if there is one.
  Vec raw_step(const T* delta, int64_t vector, int64_t count) const {
    const Vec raw = load(delta + vector * WIDTH, count);
    return bias.empty() ? raw : raw + Vec::loadu(bias.data() + vector * WIDTH);
  }

  Vec step(Vec raw) const { return softplus ? mmv2m::softplus(raw) : raw; }
};

}  // namespace mmv2m
