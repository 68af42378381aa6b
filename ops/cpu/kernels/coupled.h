// The scan of two coupled states: what both of its passes share, and the forward one.
#pragma once

#include <array>

#include "maps.h"

namespace mmv2m {

// Two coupled states walk from a corner of a map: p along its first direction, by steps j, and q
// along its second one, by steps i.
struct CornerWalk {
  bool across, first_reverse, second_reverse;  // across: the first direction is along H
  int64_t height, width, rows, steps;          // of the second direction, and of the first

  CornerWalk(int64_t first, int64_t second, int64_t height, int64_t width)
      : across(first & 2), first_reverse(first & 1), second_reverse(second & 1), height(height),
        width(width), rows(across ? width : height), steps(across ? height : width) {
    TORCH_CHECK((first & 2) != (second & 2), "a corner walks along both axes");
  }

  // The channels of a token.
  template <typename T>
  T* at(const Maps<T>& maps, int64_t k, int64_t b, int64_t i, int64_t j) const {
    const int64_t far = second_reverse ? rows - 1 - i : i, near = first_reverse ? steps - 1 - j : j;
    const int64_t h = across ? near : far, w = across ? far : near;
    return maps.data + k * maps.map + b * maps.image + h * maps.row + w * maps.column;
  }
};

// One thing of each of the four terms, [of the state][from the state].
template <typename T>
using Four = std::array<std::array<T, 2>, 2>;

// The arguments of a scan of K maps, as the loops read them. B and C are (K, B, H, W, 2 N).
template <typename T>
struct Coupled {
  int64_t maps, batch, channels, states, vectors, row;  // row: numbers of a state of a vector
  Maps<const T> x, B, C;
  std::array<Maps<const T>, 2> delta;
  Four<Buffer> A, weight;  // A in powers of two
  Buffer D;
  std::array<Buffer, 2> bias;
  bool softplus;
  std::vector<CornerWalk> walks;

  Coupled(const Tensor& x_, const Tensor& delta_, const Tensor& A_, const Tensor& weight_,
          const Tensor& B_, const Tensor& C_, const OptionalTensor& D_, const OptionalTensor& bias_,
          bool softplus_, at::IntArrayRef directions)
      : maps(x_.size(0)),
        batch(x_.size(1)),
        channels(x_.size(4)),
        states(A_.size(3)),
        vectors(count_vectors(channels)),
        row(states * WIDTH),
        x(x_),
        B(B_),
        C(C_),
        D(pack(D_)),
        softplus(softplus_) {
    TORCH_CHECK(int64_t(directions.size()) == 2 * maps, "two directions for each map");
    for (int64_t k = 0; k < 2; ++k) {
      delta[k] = Maps<const T>(delta_[k]);
      if (bias_) bias[k] = pack((*bias_)[k]);
      for (int64_t l = 0; l < 2; ++l)
        A[k][l] = pack(A_[k][l], LOG2_E), weight[k][l] = pack(weight_[k][l]);
    }
    for (int64_t k = 0; k < maps; ++k)
      walks.emplace_back(directions[2 * k], directions[2 * k + 1], x_.size(2), x_.size(3));
  }

  // The time step of state k before the softplus, if there is one.
  Vec raw_step(int64_t k, const T* delta, int64_t vector, int64_t count) const {
    const Vec raw = load(delta + vector * WIDTH, count);
    return bias[k].empty() ? raw : raw + Vec::loadu(bias[k].data() + vector * WIDTH);
  }

  Vec step(Vec raw) const { return softplus ? mmv2m::softplus(raw) : raw; }

  Four<Vec> shares(int64_t vector) const {
    Four<Vec> result;
    for (int64_t k = 0; k < 2; ++k)
      for (int64_t l = 0; l < 2; ++l)
        result[k][l] = Vec::loadu(weight[k][l].data() + vector * WIDTH);
    return result;
  }

  // What each state leaves in each state of number i of a vector.
  Four<Vec> decays(const std::array<Vec, 2>& steps, int64_t vector, int64_t i) const {
    Four<Vec> result;
    for (int64_t k = 0; k < 2; ++k)
      for (int64_t l = 0; l < 2; ++l)
        result[k][l] = exp2(steps[k] * Vec::loadu(A[k][l].data() + vector * row + i));
    return result;
  }
};

// What a vector of channels of a token brings along.
struct Inflow {
  Vec u;
  std::array<Vec, 2> raws, steps;
};

template <typename T>
Inflow read_token(const Coupled<T>& scan, const CornerWalk& walk, int64_t k, int64_t b, int64_t i,
                  int64_t j, int64_t v, int64_t count) {
  Inflow token{load(walk.at(scan.x, k, b, i, j) + v * WIDTH, count), {}, {}};
  for (int64_t s = 0; s < 2; ++s) {
    token.raws[s] = scan.raw_step(s, walk.at(scan.delta[s], k, b, i, j), v, count);
    token.steps[s] = scan.step(token.raws[s]);
  }
  return token;
}

// Moves both states of a vector on by one token: `p` and `q` are overwritten, where they were kept
// before if `kept` is given (2 rows). Returns their sum by C, if that is given.
template <typename T>
Vec advance(const Coupled<T>& scan, const Inflow& token, const Four<Vec>& shares, int64_t v,
            const T* B, const T* C, float* p, float* q, float* kept) {
  const Vec drives[2] = {token.steps[0] * token.u, token.steps[1] * token.u};
  Vec total(0.f);
  for (int64_t n = 0; n < scan.states; ++n) {
    const int64_t i = n * WIDTH;
    const Four<Vec> decays = scan.decays(token.steps, v, i);
    const Vec before[2] = {Vec::loadu(p + i), Vec::loadu(q + i)};
    if (kept) before[0].store(kept + i), before[1].store(kept + scan.row + i);
    for (int64_t s = 0; s < 2; ++s) {
      Vec now = drives[s] * Vec(float(B[s * scan.states + n]));
      now = fmadd(shares[s][0] * decays[s][0], before[0], now);
      now = fmadd(shares[s][1] * decays[s][1], before[1], now);
      now.store((s ? q : p) + i);
      if (C) total = fmadd(now, Vec(float(C[s * scan.states + n])), total);
    }
  }
  return total;
}

// One vector of channels of an image from a corner, row by row; `q` is the edge of all columns.
template <typename T>
void walk_forth(const Coupled<T>& scan, const Maps<T>& y, int64_t k, int64_t b, int64_t v,
                Buffer& p, Buffer& q) {
  const CornerWalk& walk = scan.walks[k];
  const int64_t count = count_channels(scan.channels, v);
  const Four<Vec> shares = scan.shares(v);
  q.assign(walk.steps * scan.row, 0.f);
  for (int64_t i = 0; i < walk.rows; ++i) {
    p.assign(scan.row, 0.f);
    for (int64_t j = 0; j < walk.steps; ++j) {
      const Inflow token = read_token(scan, walk, k, b, i, j, v, count);
      Vec total = advance(scan, token, shares, v, walk.at(scan.B, k, b, i, j),
                          walk.at(scan.C, k, b, i, j), p.data(), q.data() + j * scan.row, nullptr);
      if (!scan.D.empty()) total = fmadd(Vec::loadu(scan.D.data() + v * WIDTH), token.u, total);
      store(walk.at(y, k, b, i, j) + v * WIDTH, total, count);
    }
  }
}

template <typename T>
void coupled_maps(const Coupled<T>& scan, const Maps<T>& y) {
  const int64_t of_map = scan.batch * scan.vectors;
  for_chunks(scan.maps * of_map, [&](int64_t, int64_t begin, int64_t end) {
    Buffer p, q;
    for (int64_t task = begin; task < end; ++task)
      walk_forth(scan, y, task / of_map, task % of_map / scan.vectors, task % scan.vectors, p, q);
  });
}

}  // namespace mmv2m
