// The selective scan along rows or columns of maps.
#pragma once

#include "scan.h"

namespace mmv2m {

constexpr int64_t BLOCK = 4;  // vectors of channels that one task takes through a lane

// One lane for the vectors from `first` to `last`. `state` is (vectors, N, WIDTH), `room` (2, N,
// WIDTH).
template <typename T>
void scan_lane(const Scan<T>& scan, int64_t k, int64_t b, int64_t lane, int64_t first, int64_t last,
               Lane<T> y, bool adds, float* state, float* room) {
  const Walk& walk = scan.walks[k];
  const int64_t states = scan.states;
  const auto x = scan.x.lane(walk, k, b, lane), delta = scan.delta.lane(walk, k, b, lane);
  const auto z = scan.z.lane(walk, k, b, lane);
  const auto B = scan.B.tokens.lane(walk, k, b, lane), C = scan.C.tokens.lane(walk, k, b, lane);
  std::fill_n(state, (last - first) * states * WIDTH, 0.f);
  for (int64_t t = 0; t < walk.steps; ++t) {
    scan.B.expand(B, t, states, room);
    scan.C.expand(C, t, states, room + states * WIDTH);
    for (int64_t v = first; v < last; ++v) {
      const int64_t count = count_channels(scan.channels, v);
      const Vec u = load(x.at(t) + v * WIDTH, count);
      const Vec step = scan.step(scan.raw_step(delta.at(t), v, count)), drive = step * u;
      const float *A = scan.decays(v), *B_t = scan.B.of(v, states, room);
      const float* C_t = scan.C.of(v, states, room + states * WIDTH);
      float* h = state + (v - first) * states * WIDTH;
      Vec total = scan.D.empty() ? Vec(0.f) : Vec::loadu(scan.D.data() + v * WIDTH) * u;
      for (int64_t i = 0; i < states * WIDTH; i += WIDTH) {
        const Vec decay = exp2(step * Vec::loadu(A + i));
        const Vec now =
            at::vec::fmadd(decay, Vec::loadu(h + i), drive * Vec::loadu(B_t + i));
        now.store(h + i);
        total = at::vec::fmadd(now, Vec::loadu(C_t + i), total);
      }
      if (z) total = total * silu(load(z.at(t) + v * WIDTH, count));
      T* to = y.at(t) + v * WIDTH;
      store(to, adds ? total + load(to, count) : total, count);
    }
  }
}

// All maps; `y` is (K, B, H, W, E), or (B, H, W, E) for their sum. Tasks are images and blocks of
// channels, and maps where these are not summed. `adds` keeps what y holds.
template <typename T>
void scan_maps(const Scan<T>& scan, const Maps<T>& y, bool sums, bool adds) {
  const int64_t blocks = (scan.vectors + BLOCK - 1) / BLOCK;
  const int64_t rounds = sums ? scan.maps : 1, tasks = (sums ? 1 : scan.maps) * scan.batch * blocks;
  for_chunks(tasks, [&](int64_t, int64_t begin, int64_t end) {
    Buffer state(BLOCK * scan.states * WIDTH), room(2 * scan.states * WIDTH);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t block = task % blocks, b = task / blocks % scan.batch;
      const int64_t first = block * BLOCK, last = std::min(first + BLOCK, scan.vectors);
      for (int64_t round = 0; round < rounds; ++round) {
        const int64_t k = sums ? round : task / blocks / scan.batch;
        const Walk& walk = scan.walks[k];
        for (int64_t lane = 0; lane < walk.lanes; ++lane)
          scan_lane(scan, k, b, lane, first, last, y.lane(walk, k, b, lane), adds || round > 0,
                    state.data(), room.data());
      }
    }
  });
}

}  // namespace mmv2m
