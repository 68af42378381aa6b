// Gradients of the scan of two coupled states. States are computed again, a band of rows at a time.
#pragma once

#include <cmath>

#include "coupled.h"

namespace mmv2m {

constexpr int64_t BAND = 262144;  // numbers of a state of all tokens of a band: 1 MiB

template <typename T>
struct CoupledGradients {
  Maps<T> x, B, C;
  std::array<Maps<T>, 2> delta;
};

// What a chunk of images adds up: (vectors, N, WIDTH), or (vectors, WIDTH).
struct CoupledSums {
  Four<Buffer> A, weight;
  std::array<Buffer, 2> bias;
  Buffer D;

  CoupledSums(int64_t vectors, int64_t states) : D(vectors * WIDTH) {
    for (int64_t k = 0; k < 2; ++k) {
      bias[k].resize(vectors * WIDTH);
      for (int64_t l = 0; l < 2; ++l)
        A[k][l].resize(vectors * states * WIDTH), weight[k][l].resize(vectors * WIDTH);
    }
  }
};

// The room of a thread. A band has the states before each of its tokens, p and then q; each band
// starts from the edge q of the band before. Gradients of q go from band to band by another edge.
template <typename T>
class CoupledBack {
 public:
  CoupledBack(const Coupled<T>& scan, const Maps<const T>& grad_y, const CoupledGradients<T>& grads,
              CoupledSums& sums)
      : scan(scan), grad_y(grad_y), grads(grads), sums(sums), row(scan.row) {}

  void run(int64_t k_, int64_t b_) {
    k = k_, b = b_, walk = &scan.walks[k];
    const int64_t line = std::max<int64_t>(1, walk->steps * row), edge = walk->steps * row;
    const int64_t least = std::ceil(std::sqrt(double(walk->rows)));
    band = std::max<int64_t>(1, std::min(walk->rows, std::max(least, BAND / line)));
    const int64_t bands = (walk->rows + band - 1) / band, tokens = band * walk->steps;
    p.resize(row), q.resize(edge);
    starts.resize(bands * scan.vectors * edge), through.assign(scan.vectors * edge, 0.f);
    before.resize(2 * tokens * row);
    for (Buffer* side : {&grad_B, &grad_C}) side->resize(2 * tokens * row);
    for (int64_t v = 0; v < scan.vectors; ++v) find_starts(v, bands);
    for (int64_t s = bands - 1; s >= 0; --s) {
      const int64_t begin = s * band, end = std::min(walk->rows, begin + band);
      for (Buffer* side : {&grad_B, &grad_C}) std::fill(side->begin(), side->end(), 0.f);
      for (int64_t v = 0; v < scan.vectors; ++v) {
        std::copy_n(starts.data() + (s * scan.vectors + v) * edge, edge, q.data());
        forth(v, begin, end, before.data());
        back(v, begin, end);
      }
      write_side(grads.B, grad_B, begin, end);
      write_side(grads.C, grad_C, begin, end);
    }
  }

 private:
  // The edge q at the beginning of every band.
  void find_starts(int64_t v, int64_t bands) {
    std::fill(q.begin(), q.end(), 0.f);
    for (int64_t s = 0; s < bands; ++s) {
      std::copy(q.begin(), q.end(), starts.data() + (s * scan.vectors + v) * q.size());
      if (s + 1 < bands) forth(v, s * band, (s + 1) * band, nullptr);
    }
  }

  // Some rows, from the edge q that is there; keeps the states before each token, if there is room.
  void forth(int64_t v, int64_t begin, int64_t end, float* kept) {
    const int64_t count = count_channels(scan.channels, v);
    const Four<Vec> shares = scan.shares(v);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(p.begin(), p.end(), 0.f);
      for (int64_t j = 0; j < walk->steps; ++j) {
        const Inflow token = read_token(scan, *walk, k, b, i, j, v, count);
        advance<T>(scan, token, shares, v, walk->at(scan.B, k, b, i, j), nullptr, p.data(),
                   q.data() + j * row, kept);
        if (kept) kept += 2 * row;
      }
    }
  }

  // Gradients of these rows, against the walk.
  void back(int64_t v, int64_t begin, int64_t end) {
    const int64_t count = count_channels(scan.channels, v);
    for (int64_t i = end - 1; i >= begin; --i) {
      std::fill(p.begin(), p.end(), 0.f);  // now the gradient of what a row hands on
      for (int64_t j = walk->steps - 1; j >= 0; --j)
        back_token(v, i, j, ((i - begin) * walk->steps + j) * 2 * row, count);
    }
  }

  // One vector of one token, whose states before it lie at `place`.
  void back_token(int64_t v, int64_t i, int64_t j, int64_t place, int64_t count) {
    const Inflow token = read_token(scan, *walk, k, b, i, j, v, count);
    const Vec g_y = load(walk->at(grad_y, k, b, i, j) + v * WIDTH, count);
    const T *B = walk->at(scan.B, k, b, i, j), *C = walk->at(scan.C, k, b, i, j);
    const Four<Vec> shares = scan.shares(v);
    const Vec drives[2] = {token.steps[0] * token.u, token.steps[1] * token.u};
    float* edges[2] = {p.data(), through.data() + (v * walk->steps + j) * row};
    Vec g_drive[2] = {Vec(0.f), Vec(0.f)}, g_step[2] = {Vec(0.f), Vec(0.f)};
    Four<Vec> g_share;
    for (auto& of : g_share) of.fill(Vec(0.f));
    for (int64_t n = 0; n < scan.states; ++n) {
      const int64_t at = n * WIDTH;
      const Four<Vec> decays = scan.decays(token.steps, v, at);
      const float* kept = before.data() + place + at;
      const Vec from[2] = {Vec::loadu(kept), Vec::loadu(kept + row)};
      Vec handed[2] = {Vec(0.f), Vec(0.f)};
      for (int64_t s = 0; s < 2; ++s) {
        const Vec B_n(float(B[s * scan.states + n])), C_n(float(C[s * scan.states + n]));
        const Vec g = fmadd(g_y, C_n, Vec::loadu(edges[s] + at));
        Vec now = drives[s] * B_n;
        for (int64_t l = 0; l < 2; ++l) {
          const Vec share = shares[s][l] * decays[s][l], g_decay = g * from[l] * decays[s][l];
          const Vec g_exponent = g_decay * shares[s][l];
          now = fmadd(share, from[l], now), handed[l] = fmadd(share, g, handed[l]);
          g_share[s][l] = g_share[s][l] + g_decay;
          g_step[s] = fmadd(g_exponent, Vec::loadu(scan.A[s][l].data() + v * row + at), g_step[s]);
          add(sums.A[s][l].data() + v * row + at, g_exponent, token.steps[s]);
        }
        g_drive[s] = fmadd(g, B_n, g_drive[s]);
        add(grad_B.data() + place + s * row + at, g, drives[s]);
        add(grad_C.data() + place + s * row + at, g_y, now);
      }
      for (int64_t l = 0; l < 2; ++l) handed[l].store(edges[l] + at);
    }
    Vec g_x = scan.D.empty() ? Vec(0.f) : g_y * Vec::loadu(scan.D.data() + v * WIDTH);
    for (int64_t s = 0; s < 2; ++s) {
      g_x = fmadd(g_drive[s], token.steps[s], g_x);
      Vec g_raw = fmadd(g_drive[s], token.u, g_step[s] * Vec(LN_2));
      if (scan.softplus) g_raw = g_raw * sigmoid(token.raws[s]);
      store(walk->at(grads.delta[s], k, b, i, j) + v * WIDTH, g_raw, count);
      add(sums.bias[s].data() + v * WIDTH, g_raw, Vec(1.f));
      for (int64_t l = 0; l < 2; ++l)
        add(sums.weight[s][l].data() + v * WIDTH, g_share[s][l], Vec(1.f));
    }
    store(walk->at(grads.x, k, b, i, j) + v * WIDTH, g_x, count);
    add(sums.D.data() + v * WIDTH, g_y, token.u);
  }

  static void add(float* to, Vec a, Vec b) { fmadd(a, b, Vec::loadu(to)).store(to); }

  // The gradients of B or C of a band: sums over the channels.
  void write_side(const Maps<T>& to, const Buffer& sums_of_vectors, int64_t begin, int64_t end) {
    const float* from = sums_of_vectors.data();
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < walk->steps; ++j)
        for (int64_t n = 0; n < 2 * scan.states; ++n, from += WIDTH)
          walk->at(to, k, b, i, j)[n] = T(sum(Vec::loadu(from)));
  }

  const Coupled<T>& scan;
  const Maps<const T>& grad_y;
  const CoupledGradients<T>& grads;
  CoupledSums& sums;
  const int64_t row;
  const CornerWalk* walk = nullptr;
  int64_t k = 0, b = 0, band = 1;
  Buffer p, q, starts, through, before, grad_B, grad_C;
};

// All images of all maps, in chunks; returns the chunks' sums.
template <typename T>
std::vector<CoupledSums> coupled_maps_backward(const Coupled<T>& scan, const Maps<const T>& grad_y,
                                               const CoupledGradients<T>& grads) {
  const int64_t images = scan.maps * scan.batch;
  std::vector<CoupledSums> sums(count_chunks(images), CoupledSums(scan.vectors, scan.states));
  for_chunks(images, [&](int64_t chunk, int64_t begin, int64_t end) {
    CoupledBack<T> back(scan, grad_y, grads, sums[chunk]);
    for (int64_t i = begin; i < end; ++i) back.run(i / scan.batch, i % scan.batch);
  });
  return sums;
}

}  // namespace mmv2m
