// The selective scan along rows or columns of maps.
#pragma once

#include "scan.h"

namespace mmv2m {

// Numbers of all states of lanes and channels that are walked along together: 64 KiB.
constexpr int64_t ROOM = 16384;

// What one task scans: some lanes of an image, and some of their vectors of channels.
struct Task {
  int64_t k, b, first_lane, last_lane, first, last;
};

// The tasks of one map. Lanes along H go together, so that memory is read as it lies.
template <typename T>
class Tasks {
 public:
  Tasks(const Scan<T>& scan, int64_t k) : k(k) {
    const Walk& walk = scan.walks[k];
    const int64_t row = std::max<int64_t>(1, scan.states) * WIDTH, most = std::max<int64_t>(1, ROOM / 2 / row);
    vectors = std::max<int64_t>(1, std::min(scan.vectors, most)), all_vectors = scan.vectors;
    const int64_t share = (walk.lanes + at::get_num_threads() - 1) / at::get_num_threads();
    const int64_t room = std::max<int64_t>(1, ROOM / (vectors * row));
    lanes = walk.down ? std::max<int64_t>(1, std::min(share, room)) : 1, all_lanes = walk.lanes;
    blocks = (all_vectors + vectors - 1) / vectors;
    groups = (all_lanes + lanes - 1) / lanes;
    count = scan.batch * groups * blocks;
    numbers = lanes * vectors * row;
  }

  Task operator[](int64_t i) const {
    const int64_t first = i % blocks * vectors, lane = i / blocks % groups * lanes;
    return {k, i / blocks / groups, lane, std::min(lane + lanes, all_lanes),
            first, std::min(first + vectors, all_vectors)};
  }

  int64_t count, numbers;  // of tasks, and of all states of one

 private:
  int64_t k, lanes, vectors, all_lanes, all_vectors, groups, blocks;
};

// The room of a thread.
template <typename T>
class ForwardLanes {
 public:
  ForwardLanes(const Scan<T>& scan, const Maps<T>& y, bool adds, int64_t numbers)
      : scan(scan), y(y), adds(adds), row(scan.states * WIDTH) {
    state.resize(numbers), B_room.resize(row), C_room.resize(row);
    steps.resize(scan.vectors * WIDTH);
  }

  void run(const Task& task) {
    std::fill(state.begin(), state.end(), 0.f);
    float* h = nullptr;
    for (int64_t t = 0; t < scan.walks[task.k].steps; ++t) {
      h = state.data();
      for (int64_t lane = task.first_lane; lane < task.last_lane; ++lane) {
        step(task, lane, t, h);
        h += (task.last - task.first) * row;
      }
    }
  }

 private:
  // One step of one lane, whose states are `h`.
  void step(const Task& task, int64_t lane, int64_t t, float* h) {
    const Walk& walk = scan.walks[task.k];
    const auto at = [&](const auto& maps) { return maps.lane(walk, task.k, task.b, lane).at(t); };
    const T *x = at(scan.x), *delta = at(scan.delta), *z = scan.z ? at(scan.z) : nullptr;
    T* to = at(y);
    if (scan.B.tokens) scan.B.expand(at(scan.B.tokens), scan.states, B_room.data());
    if (scan.C.tokens) scan.C.expand(at(scan.C.tokens), scan.states, C_room.data());
    // All time steps first: what takes long to compute is under way for several vectors at once.
    for (int64_t v = task.first; v < task.last; ++v) {
      const int64_t count = count_channels(scan.channels, v);
      scan.step(scan.raw_step(delta, v, count)).store(steps.data() + (v - task.first) * WIDTH);
    }
    for (int64_t v = task.first; v < task.last; ++v, h += row) {
      const int64_t count = count_channels(scan.channels, v);
      const Vec u = load(x + v * WIDTH, count);
      Vec total = sum_states(v, u, Vec::loadu(steps.data() + (v - task.first) * WIDTH), h);
      if (z) total = total * silu(load(z + v * WIDTH, count));
      store(to + v * WIDTH, adds ? total + load(to + v * WIDTH, count) : total, count);
    }
  }

  // Updates the states of a vector; returns their sum, and the skip.
  Vec sum_states(int64_t v, Vec u, Vec step, float* h) const {
    const Vec drive = step * u;
    const float *A = scan.decays(v), *B_t = scan.B.of(v, scan.states, B_room.data());
    const float* C_t = scan.C.of(v, scan.states, C_room.data());
    Vec total = scan.D.empty() ? Vec(0.f) : Vec::loadu(scan.D.data() + v * WIDTH) * u;
    for (int64_t i = 0; i < row; i += WIDTH) {
      const Vec decay = exp2(step * Vec::loadu(A + i));
      const Vec now = fmadd(decay, Vec::loadu(h + i), drive * Vec::loadu(B_t + i));
      now.store(h + i);
      total = fmadd(now, Vec::loadu(C_t + i), total);
    }
    return total;
  }

  const Scan<T>& scan;
  const Maps<T>& y;
  const bool adds;
  const int64_t row;  // numbers of all states of a vector
  Buffer state, B_room, C_room, steps;
};

// All maps, one after the other; `y` is (K, B, H, W, E), or (B, H, W, E) for their sum. `adds`
// keeps what y holds.
template <typename T>
void scan_maps(const Scan<T>& scan, const Maps<T>& y, bool sums, bool adds) {
  for (int64_t k = 0; k < scan.maps; ++k) {
    const Tasks<T> tasks(scan, k);
    for_chunks(tasks.count, [&](int64_t, int64_t begin, int64_t end) {
      ForwardLanes<T> lanes(scan, y, adds || (sums && k > 0), tasks.numbers);
      for (int64_t i = begin; i < end; ++i) lanes.run(tasks[i]);
    });
  }
}

}  // namespace mmv2m
