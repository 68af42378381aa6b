// Gradients of the selective scan. States are computed again, a segment of a lane at a time.
#pragma once

#include "scan.h"

namespace mmv2m {

constexpr int64_t SEGMENT = 1024;  // states a channel, of all steps of a segment: some 200 KiB

template <typename T>
struct ScanGradients {
  Maps<T> x, delta, z, B, C;
  bool has_z, has_B, has_C;  // where projections are constant, sums of chunks hold their gradients
};

// What a chunk of lanes adds up: (vectors, N, WIDTH), or (vectors, WIDTH).
struct ScanSums {
  Buffer A, B, C, D, bias;

  ScanSums(int64_t vectors, int64_t states)
      : A(vectors * states * WIDTH), B(A), C(A), D(vectors * WIDTH), bias(D) {}
};

// The room of a thread. Steps of a segment are numbered from 0, their states from 1.
template <typename T>
class BackwardLanes {
 public:
  BackwardLanes(const Scan<T>& scan, const Maps<const T>& grad_y, const ScanGradients<T>& grads,
                ScanSums& sums)
      : scan(scan), grad_y(grad_y), grads(grads), sums(sums), row(scan.states * WIDTH) {
    const int64_t longest = std::max<int64_t>(scan.height, scan.width);
    length = std::max<int64_t>(1, std::min(longest, SEGMENT / std::max<int64_t>(scan.states, 1)));
    segments = (longest + length - 1) / length;
    state.resize((length + 1) * row), decay.resize(length * row);
    B_room.resize(length * row), C_room.resize(length * row);
    grad_B.resize(length * row), grad_C.resize(length * row);
    through.resize(scan.vectors * row);
    starts.resize(segments > 1 ? segments * scan.vectors * row : 0);
    raws.resize(length * WIDTH), steps.resize(raws.size()), outputs.resize(raws.size());
  }

  void run(int64_t k, int64_t b, int64_t lane) {
    const Walk& walk = scan.walks[k];
    x = scan.x.lane(walk, k, b, lane), delta = scan.delta.lane(walk, k, b, lane);
    z = scan.z.lane(walk, k, b, lane), upstream = grad_y.lane(walk, k, b, lane);
    B = scan.B.tokens.lane(walk, k, b, lane), C = scan.C.tokens.lane(walk, k, b, lane);
    to_x = grads.x.lane(walk, k, b, lane), to_delta = grads.delta.lane(walk, k, b, lane);
    to_z = grads.z.lane(walk, k, b, lane);
    const auto to_B = grads.B.lane(walk, k, b, lane), to_C = grads.C.lane(walk, k, b, lane);
    const int64_t count = (walk.steps + length - 1) / length;
    if (count > 1) find_starts(walk.steps);
    std::fill(through.begin(), through.end(), 0.f);
    for (int64_t s = count - 1; s >= 0; --s) {
      const int64_t begin = s * length, size = std::min(length, walk.steps - begin);
      for (int64_t t = 0; t < size; ++t) {
        if (B) scan.B.expand(B.at(begin + t), scan.states, B_room.data() + t * row);
        if (C) scan.C.expand(C.at(begin + t), scan.states, C_room.data() + t * row);
      }
      std::fill(grad_B.begin(), grad_B.end(), 0.f);
      std::fill(grad_C.begin(), grad_C.end(), 0.f);
      for (int64_t v = 0; v < scan.vectors; ++v) {
        if (count > 1) std::copy_n(starts.data() + (s * scan.vectors + v) * row, row, state.data());
        else std::fill_n(state.data(), row, 0.f);
        forth(v, begin, size);
        back(v, begin, size);
      }
      write_side(to_B, grad_B, begin, size);
      write_side(to_C, grad_C, begin, size);
    }
  }

 private:
  // The states at the beginning of every segment.
  void find_starts(int64_t steps_of_lane) {
    Buffer B_t(row);
    for (int64_t v = 0; v < scan.vectors; ++v) {
      std::fill_n(state.data(), row, 0.f);
      walk_to_starts(v, steps_of_lane, B_t.data());
    }
  }

  void walk_to_starts(int64_t v, int64_t steps_of_lane, float* B_t) {
    const int64_t count = count_channels(scan.channels, v);
    float* h = state.data();
    for (int64_t t = 0; t < steps_of_lane; ++t) {
      if (t % length == 0)
        std::copy_n(h, row, starts.data() + (t / length * scan.vectors + v) * row);
      if (B) scan.B.expand(B.at(t), scan.states, B_t);
      const Vec step = scan.step(scan.raw_step(delta.at(t), v, count));
      advance(step, step * load(x.at(t) + v * WIDTH, count), scan.decays(v),
              scan.B.of(v, scan.states, B_t), h, h, nullptr);
    }
  }

  // One step of the recurrence, from `before` to `after`.
  void advance(Vec step, Vec drive, const float* A, const float* B_t, const float* before,
               float* after, float* decays) const {
    for (int64_t i = 0; i < row; i += WIDTH) {
      const Vec a = exp2(step * Vec::loadu(A + i));
      if (decays) a.store(decays + i);
      fmadd(a, Vec::loadu(before + i), drive * Vec::loadu(B_t + i)).store(after + i);
    }
  }

  // States, decays and time steps of a segment; and outputs, which the gate's gradient needs.
  void forth(int64_t v, int64_t begin, int64_t size) {
    const int64_t count = count_channels(scan.channels, v);
    for (int64_t t = 0; t < size; ++t) {
      const Vec raw = scan.raw_step(delta.at(begin + t), v, count), step = scan.step(raw);
      const Vec u = load(x.at(begin + t) + v * WIDTH, count);
      raw.store(raws.data() + t * WIDTH), step.store(steps.data() + t * WIDTH);
      float* after = state.data() + (t + 1) * row;
      advance(step, step * u, scan.decays(v), scan.B.of(v, scan.states, B_room.data() + t * row),
              after - row, after, decay.data() + t * row);
      if (!grads.has_z) continue;
      const float* C_t = scan.C.of(v, scan.states, C_room.data() + t * row);
      Vec total = scan.D.empty() ? Vec(0.f) : Vec::loadu(scan.D.data() + v * WIDTH) * u;
      for (int64_t i = 0; i < row; i += WIDTH)
        total = fmadd(Vec::loadu(after + i), Vec::loadu(C_t + i), total);
      total.store(outputs.data() + t * WIDTH);
    }
  }

  // Gradients of a segment, against the walk.
  void back(int64_t v, int64_t begin, int64_t size) {
    const int64_t count = count_channels(scan.channels, v);
    const float* A = scan.decays(v);
    float *g_next = through.data() + v * row, *sum_A = sums.A.data() + v * row;
    Vec sum_D(0.f), sum_bias(0.f);
    for (int64_t t = size - 1; t >= 0; --t) {
      const Vec u = load(x.at(begin + t) + v * WIDTH, count);
      const Vec step = Vec::loadu(steps.data() + t * WIDTH), drive = step * u;
      Vec g_y = load(upstream.at(begin + t) + v * WIDTH, count);
      if (grads.has_z) g_y = through_gate(g_y, v, begin, t, count);
      const float *a = decay.data() + t * row, *before = state.data() + t * row;
      const float *B_t = scan.B.of(v, scan.states, B_room.data() + t * row);
      const float *C_t = scan.C.of(v, scan.states, C_room.data() + t * row);
      float* sum_B = B ? grad_B.data() + t * row : sums.B.data() + v * row;
      float* sum_C = C ? grad_C.data() + t * row : sums.C.data() + v * row;
      Vec g_drive(0.f), g_step(0.f);
      for (int64_t i = 0; i < row; i += WIDTH) {
        const Vec g = fmadd(g_y, Vec::loadu(C_t + i), Vec::loadu(g_next + i));
        const Vec g_before = g * Vec::loadu(a + i);
        const Vec g_exponent = g_before * Vec::loadu(before + i);
        g_before.store(g_next + i);
        g_drive = fmadd(g, Vec::loadu(B_t + i), g_drive);
        g_step = fmadd(g_exponent, Vec::loadu(A + i), g_step);
        add(sum_A + i, g_exponent, step);
        if (grads.has_B) add(sum_B + i, g, drive);
        if (grads.has_C) add(sum_C + i, g_y, Vec::loadu(before + row + i));
      }
      Vec g_x = g_drive * step;
      if (!scan.D.empty()) g_x = fmadd(g_y, Vec::loadu(scan.D.data() + v * WIDTH), g_x);
      Vec g_raw = fmadd(g_drive, u, g_step * Vec(LN_2));
      if (scan.softplus) g_raw = g_raw * sigmoid(Vec::loadu(raws.data() + t * WIDTH));
      sum_D = fmadd(g_y, u, sum_D), sum_bias = sum_bias + g_raw;
      store(to_x.at(begin + t) + v * WIDTH, g_x, count);
      store(to_delta.at(begin + t) + v * WIDTH, g_raw, count);
    }
    add(sums.D.data() + v * WIDTH, sum_D, Vec(1.f));
    add(sums.bias.data() + v * WIDTH, sum_bias, Vec(1.f));
  }

  // Writes the gate's gradient and returns that of what it gates.
  Vec through_gate(Vec g_y, int64_t v, int64_t begin, int64_t t, int64_t count) const {
    const Vec gate = load(z.at(begin + t) + v * WIDTH, count);
    const Vec g_z = g_y * Vec::loadu(outputs.data() + t * WIDTH) * silu_slope(gate);
    store(to_z.at(begin + t) + v * WIDTH, g_z, count);
    return g_y * silu(gate);
  }

  static void add(float* to, Vec a, Vec b) { fmadd(a, b, Vec::loadu(to)).store(to); }

  // The gradients of a projection that is one a token: sums over the channels.
  void write_side(const Lane<T>& to, const Buffer& sums_of_lanes, int64_t begin, int64_t size) {
    if (!to) return;
    for (int64_t t = 0; t < size; ++t)
      for (int64_t n = 0; n < scan.states; ++n)
        to.at(begin + t)[n] = T(sum(Vec::loadu(sums_of_lanes.data() + t * row + n * WIDTH)));
  }

  const Scan<T>& scan;
  const Maps<const T>& grad_y;
  const ScanGradients<T>& grads;
  ScanSums& sums;
  const int64_t row;  // numbers of all states of a vector
  int64_t length, segments;
  Buffer state, decay, B_room, C_room, grad_B, grad_C, through, starts, raws, steps, outputs;
  Lane<const T> x, delta, z, upstream, B, C;
  Lane<T> to_x, to_delta, to_z;
};

// All lanes of all maps, in chunks; returns the chunks' sums.
template <typename T>
std::vector<ScanSums> scan_maps_backward(const Scan<T>& scan, const Maps<const T>& grad_y,
                                         const ScanGradients<T>& grads) {
  const auto lanes = list_lanes(scan.walks, scan.batch);
  std::vector<ScanSums> sums(count_chunks(lanes.size()), ScanSums(scan.vectors, scan.states));
  for_chunks(lanes.size(), [&](int64_t chunk, int64_t begin, int64_t end) {
    BackwardLanes<T> run(scan, grad_y, grads, sums[chunk]);
    for (int64_t i = begin; i < end; ++i) run.run(lanes[i][0], lanes[i][1], lanes[i][2]);
  });
  return sums;
}

}  // namespace mmv2m
