// The causal depthwise convolution with its SiLU, and a gate in front of it.
#pragma once

#include "maps.h"

namespace mmv2m {

// The arguments of convolutions of one map, or of K, as the loops read them.
template <typename T>
struct Conv {
  int64_t maps, batch, height, width, channels, taps, vectors, longest;
  Maps<const T> x, gate;
  Buffer weight, bias;  // (vectors, taps, WIDTH), (vectors, WIDTH)
  std::vector<Walk> walks;

  Conv(const Tensor& x_, const OptionalTensor& gate_, const Tensor& weight_,
       const OptionalTensor& bias_, at::IntArrayRef directions)
      : maps(directions.size()),
        batch(x_.size(-4)),
        height(x_.size(-3)),
        width(x_.size(-2)),
        channels(x_.size(-1)),
        taps(weight_.size(1)),
        vectors(count_vectors(channels)),
        longest(std::max(height, width)),
        x(x_),
        gate(gate_),
        weight(pack(weight_)),
        bias(pack(bias_)) {
    TORCH_CHECK(x_.dim() == 4 || x_.size(0) == maps, "a direction for each map");
    TORCH_CHECK(weight_.size(0) == channels, "shapes differ");
    for (int64_t direction : directions) walks.emplace_back(direction, height, width);
  }

  const float* weights(int64_t vector) const { return weight.data() + vector * taps * WIDTH; }

  // A lane of a vector as the taps see it: gated, behind zeros, (taps - 1 + steps, WIDTH).
  void gather(const Walk& walk, int64_t k, int64_t b, int64_t lane, int64_t vector,
              float* seen) const {
    const int64_t count = count_channels(channels, vector);
    const auto from = x.lane(walk, k, b, lane), opens = gate.lane(walk, k, b, lane);
    std::fill_n(seen, (taps - 1) * WIDTH, 0.f);
    for (int64_t t = 0; t < walk.steps; ++t) {
      Vec u = load(from.at(t) + vector * WIDTH, count);
      if (opens) u = u * silu(load(opens.at(t) + vector * WIDTH, count));
      u.store(seen + (taps - 1 + t) * WIDTH);
    }
  }

  // What stands in front of the SiLU at one step.
  Vec weigh(int64_t vector, const float* seen, int64_t step) const {
    const float* w = weights(vector);
    Vec total = bias.empty() ? Vec(0.f) : Vec::loadu(bias.data() + vector * WIDTH);
    for (int64_t tap = 0; tap < taps; ++tap)
      total = fmadd(Vec::loadu(w + tap * WIDTH), Vec::loadu(seen + (step + tap) * WIDTH),
                             total);
    return total;
  }
};

// One lane of a map; `seen` is room for what the taps see.
template <typename T>
void conv_lane(const Conv<T>& conv, const Maps<T>& y, int64_t k, int64_t b, int64_t lane,
               Buffer& seen) {
  const Walk& walk = conv.walks[k];
  const auto to = y.lane(walk, k, b, lane);
  for (int64_t v = 0; v < conv.vectors; ++v) {
    const int64_t count = count_channels(conv.channels, v);
    conv.gather(walk, k, b, lane, v, seen.data());
    for (int64_t t = 0; t < walk.steps; ++t)
      store(to.at(t) + v * WIDTH, silu(conv.weigh(v, seen.data(), t)), count);
  }
}

// Writes (K, B, H, W, E). Threads share out the lanes of all maps.
template <typename T>
void conv_maps(const Conv<T>& conv, const Maps<T>& y) {
  const auto lanes = list_lanes(conv.walks, conv.batch);
  for_chunks(lanes.size(), [&](int64_t, int64_t begin, int64_t end) {
    Buffer seen((conv.taps - 1 + conv.longest) * WIDTH);
    for (int64_t i = begin; i < end; ++i)
      conv_lane(conv, y, lanes[i][0], lanes[i][1], lanes[i][2], seen);
  });
}

// What a chunk of lanes adds up: (vectors, taps, WIDTH), (vectors, WIDTH).
struct ConvSums {
  Buffer weight, bias;

  ConvSums(int64_t vectors, int64_t taps) : weight(vectors * taps * WIDTH), bias(vectors * WIDTH) {}
};

template <typename T>
class BackwardConv {
 public:
  BackwardConv(const Conv<T>& conv, const Maps<const T>& grad_y, const Maps<T>& grad_x,
               const Maps<T>& grad_gate, bool adds_x, bool adds_gate, ConvSums& sums)
      : conv(conv),
        grad_y(grad_y),
        grad_x(grad_x),
        grad_gate(grad_gate),
        adds_x(adds_x),
        adds_gate(adds_gate),
        sums(sums) {
    seen.resize((conv.taps - 1 + conv.longest) * WIDTH), linear.resize(seen.size());
  }

  // One vector of one lane.
  void run(int64_t k, int64_t b, int64_t lane, int64_t v) {
    const Walk& walk = conv.walks[k];
    const int64_t count = count_channels(conv.channels, v), taps = conv.taps;
    const auto upstream = grad_y.lane(walk, k, b, lane);
    conv.gather(walk, k, b, lane, v, seen.data());
    Vec sum_bias(0.f);
    for (int64_t t = 0; t < walk.steps; ++t) {
      const Vec slope = silu_slope(conv.weigh(v, seen.data(), t));
      const Vec g = load(upstream.at(t) + v * WIDTH, count) * slope;
      g.store(linear.data() + t * WIDTH);
      sum_bias = sum_bias + g;
    }
    std::fill_n(linear.data() + walk.steps * WIDTH, (taps - 1) * WIDTH, 0.f);
    add(sums.bias.data() + v * WIDTH, sum_bias);
    for (int64_t tap = 0; tap < taps; ++tap) {
      Vec total(0.f);
      for (int64_t t = 0; t < walk.steps; ++t)
        total = fmadd(Vec::loadu(linear.data() + t * WIDTH),
                               Vec::loadu(seen.data() + (t + tap) * WIDTH), total);
      add(sums.weight.data() + (v * taps + tap) * WIDTH, total);
    }
    for (int64_t t = 0; t < walk.steps; ++t) {
      Vec g(0.f);
      for (int64_t tap = 0; tap < taps; ++tap)
        g = fmadd(Vec::loadu(conv.weights(v) + tap * WIDTH),
                           Vec::loadu(linear.data() + (t + taps - 1 - tap) * WIDTH), g);
      write(k, b, lane, v, t, g, count);
    }
  }

 private:
  // Gradients of the map and its gate, of that of what the taps see.
  void write(int64_t k, int64_t b, int64_t lane, int64_t v, int64_t t, Vec g, int64_t count) const {
    const Walk& walk = conv.walks[k];
    T* to_x = grad_x.lane(walk, k, b, lane).at(t) + v * WIDTH;
    if (conv.gate) {
      const Vec opens = load(conv.gate.lane(walk, k, b, lane).at(t) + v * WIDTH, count);
      const Vec u = load(conv.x.lane(walk, k, b, lane).at(t) + v * WIDTH, count);
      const Vec g_gate = g * u * silu_slope(opens);
      T* to_gate = grad_gate.lane(walk, k, b, lane).at(t) + v * WIDTH;
      store(to_gate, adds_gate || k > 0 ? g_gate + load(to_gate, count) : g_gate, count);
      g = g * silu(opens);
    }
    store(to_x, adds_x || (k > 0 && grad_x.map == 0) ? g + load(to_x, count) : g, count);
  }

  static void add(float* to, Vec value) { (Vec::loadu(to) + value).store(to); }

  const Conv<T>& conv;
  const Maps<const T>& grad_y;
  const Maps<T>&grad_x, &grad_gate;
  const bool adds_x, adds_gate;
  ConvSums& sums;
  Buffer seen, linear;
};

template <typename T>
std::vector<ConvSums> conv_maps_backward(const Conv<T>& conv, const Maps<const T>& grad_y,
                                         const Maps<T>& grad_x, const Maps<T>& grad_gate,
                                         bool adds_x, bool adds_gate) {
  const int64_t most = conv.batch * conv.longest;
  std::vector<ConvSums> sums(count_chunks(most), ConvSums(conv.vectors, conv.taps));
  // One map after the other: they add up where they share a gradient.
  for (int64_t k = 0; k < conv.maps; ++k) {
    const Walk& walk = conv.walks[k];
    for_chunks(conv.batch * walk.lanes, [&](int64_t chunk, int64_t begin, int64_t end) {
      BackwardConv<T> run(conv, grad_y, grad_x, grad_gate, adds_x, adds_gate, sums[chunk]);
      for (int64_t i = begin; i < end; ++i)
        for (int64_t v = 0; v < conv.vectors; ++v) run.run(k, i / walk.lanes, i % walk.lanes, v);
    });
  }
  return sums;
}

}  // namespace mmv2m
