// The selective scan along rows or columns of maps.
#pragma once

#include "scan.h"

namespace mmv2m {

// Numbers of all states of lanes and channels that are walked along together: 32 KiB.
constexpr int64_t ROOM = 8192;

// How a projection multiplies a state of a vector, and adds it up: it is 1, one number for all
// channels, or a number for each.
struct One {
  Vec times(Vec x, int64_t) const { return x; }
  Vec plus_times(Vec total, Vec x, int64_t) const { return total + x; }
};

struct OfToken {
  const float* states;

  Vec times(Vec x, int64_t n) const { return x * Vec(states[n]); }
  Vec plus_times(Vec total, Vec x, int64_t n) const { return fmadd(x, Vec(states[n]), total); }
};

struct OfChannels {
  const float* states;

  Vec at(int64_t n) const { return Vec::loadu(states + n * WIDTH); }
  Vec times(Vec x, int64_t n) const { return x * at(n); }
  Vec plus_times(Vec total, Vec x, int64_t n) const { return fmadd(x, at(n), total); }
};

// Calls f with what a projection is. The loop over states is compiled for each kind, as most models
// have one side that is 1.
template <typename T, typename F>
Vec with_side(const Side<T>& side, const float* token, int64_t vector, int64_t states, const F& f) {
  if (side.tokens) return f(OfToken{token});
  if (side.constant.empty()) return f(One{});
  return f(OfChannels{side.constant.data() + vector * states * WIDTH});
}

// Some lanes of an image, and some of their vectors of channels.
struct Part {
  int64_t k, b, first_lane, last_lane, first, last;
};

// The room of a thread. `y` is (K, B, H, W, E), or (B, H, W, E) for the sum of all maps.
template <typename T>
class ForwardLanes {
 public:
  ForwardLanes(const Scan<T>& scan, const Maps<T>& y, bool sums, bool adds)
      : scan(scan), y(y), sums(sums), adds(adds), row(scan.states * WIDTH) {
    B.resize(scan.states), C.resize(scan.states), steps.resize(scan.vectors * WIDTH);
  }

  // In blocks whose states stay in the cache. Lanes along H go together, so that memory is read as
  // it lies.
  void run(const Part& part) {
    const int64_t of_vector = std::max(WIDTH, row), all = part.last - part.first;
    const int64_t vectors = std::clamp<int64_t>(ROOM / 2 / of_vector, 1, all);
    const int64_t room = std::max<int64_t>(1, ROOM / (vectors * of_vector));
    const int64_t lanes = scan.walks[part.k].down ? room : 1;
    for (int64_t v = part.first; v < part.last; v += vectors)
      for (int64_t lane = part.first_lane; lane < part.last_lane; lane += lanes)
        walk({part.k, part.b, lane, std::min(lane + lanes, part.last_lane), v,
              std::min(v + vectors, part.last)});
  }

 private:
  void walk(const Part& part) {
    state.assign((part.last_lane - part.first_lane) * (part.last - part.first) * row, 0.f);
    for (int64_t t = 0; t < scan.walks[part.k].steps; ++t) {
      float* h = state.data();
      for (int64_t lane = part.first_lane; lane < part.last_lane; ++lane) {
        step(part, lane, t, h);
        h += (part.last - part.first) * row;
      }
    }
  }

  // One step of one lane, whose states are `h`.
  void step(const Part& part, int64_t lane, int64_t t, float* h) {
    const Walk& walk = scan.walks[part.k];
    const auto at = [&](const auto& maps) { return maps.lane(walk, part.k, part.b, lane).at(t); };
    const bool keeps = adds || (sums && part.k > 0), gates = !sums || part.k + 1 == scan.maps;
    const T *x = at(scan.x), *delta = at(scan.delta), *z = scan.z && gates ? at(scan.z) : nullptr;
    T* to = at(y);
    if (scan.B.tokens) std::copy_n(at(scan.B.tokens), scan.states, B.data());
    if (scan.C.tokens) std::copy_n(at(scan.C.tokens), scan.states, C.data());
    // All time steps first: what takes long to compute is under way for several vectors at once.
    for (int64_t v = part.first; v < part.last; ++v) {
      const int64_t count = count_channels(scan.channels, v);
      scan.step(scan.raw_step(delta, v, count)).store(steps.data() + v * WIDTH);
    }
    for (int64_t v = part.first; v < part.last; ++v, h += row) {
      const int64_t count = count_channels(scan.channels, v);
      const Vec u = load(x + v * WIDTH, count);
      Vec total = sum_states(v, u, Vec::loadu(steps.data() + v * WIDTH), h);
      if (keeps) total = total + load(to + v * WIDTH, count);
      if (z) total = total * silu(load(z + v * WIDTH, count));
      store(to + v * WIDTH, total, count);
    }
  }

  // Updates the states of a vector; returns their sum, and the skip.
  Vec sum_states(int64_t v, Vec u, Vec step, float* h) const {
    const Vec skip = scan.D.empty() ? Vec(0.f) : Vec::loadu(scan.D.data() + v * WIDTH) * u;
    return with_side(scan.B, B.data(), v, scan.states, [&](auto drives) {
      return with_side(scan.C, C.data(), v, scan.states, [&](auto reads) {
        return update(scan.decays(v), step, step * u, skip, drives, reads, h);
      });
    });
  }

  template <typename Drives, typename Reads>
  Vec update(const float* A, Vec step, Vec drive, Vec total, Drives drives, Reads reads,
             float* h) const {
    for (int64_t n = 0; n < scan.states; ++n, h += WIDTH) {
      const Vec decay = exp2(step * Vec::loadu(A + n * WIDTH));
      const Vec now = fmadd(decay, Vec::loadu(h), drives.times(drive, n));
      now.store(h);
      total = reads.plus_times(total, now, n);
    }
    return total;
  }

  const Scan<T>& scan;
  const Maps<T>& y;
  const bool sums, adds;
  const int64_t row;  // numbers of all states of a vector
  Buffer state, B, C, steps;  // B and C of a token
};

// All maps; `y` is (K, B, H, W, E), or (B, H, W, E) for their sum. `adds` keeps what y holds. A gate
// is that of each map, or of the sum.
//
// Each thread has some channels of all maps, if these can be shared out evenly: then none waits for
// another one before the next map, and a thread's states and decays stay in its cache. If not, it
// has some lanes of one map after the other.
template <typename T>
void scan_maps(const Scan<T>& scan, const Maps<T>& y, bool sums, bool adds) {
  const int64_t of_batch = scan.batch * scan.vectors;
  if (is_even(of_batch)) {
    for_chunks(of_batch, [&](int64_t, int64_t begin, int64_t end) {
      ForwardLanes<T> lanes(scan, y, sums, adds);
      for_images(scan.vectors, begin, end, [&](int64_t b, int64_t first, int64_t last) {
        for (int64_t k = 0; k < scan.maps; ++k)
          lanes.run({k, b, 0, scan.walks[k].lanes, first, last});
      });
    });
    return;
  }
  for (int64_t k = 0; k < scan.maps; ++k)
    for_chunks(scan.batch * scan.walks[k].lanes, [&](int64_t, int64_t begin, int64_t end) {
      ForwardLanes<T> lanes(scan, y, sums, adds);
      for_images(scan.walks[k].lanes, begin, end, [&](int64_t b, int64_t first, int64_t last) {
        lanes.run({k, b, first, last, 0, scan.vectors});
      });
    });
}

}  // namespace mmv2m
