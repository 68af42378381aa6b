// What a warp reads on its way back along lanes, and its copying into shared memory.
//
// Given to the compiler: what scan_backward.cu needs.
#pragma once

#include "scan.cuh"
#include "stage.cuh"

constexpr int SIDES = B_TOKEN + C_TOKEN;

// What a warp reads of a pair of steps: B's tokens are followed by C's.
struct Stage {
  Staged<NUMBER, 2, WARP_CHANNELS> x, delta;
  Staged<GRADIENT, 2, WARP_CHANNELS> grad_y;
  Staged<SIDE, 2 * (SIDES > 0 ? SIDES : 1), STATES> sides;
};

// A block's position on its way along the lanes, each of which it walks over in chunks of `chunk`
// steps, the last one first. `token` is the chunk's first one, counted from its direction's.
struct Cursor {
  int unit, c;
  Lane lane;
  long long token;

  DEVICE Cursor(const Map& map, int lanes, int chunk) : unit(blockIdx.x) {
    find(map, lanes, chunk);
  }

  DEVICE bool there(int lanes) const { return unit < lanes; }
  // That token among those of all directions.
  DEVICE long long own(const Map& map) const { return lane.k * map.tokens() + token; }
  DEVICE int steps(int chunk) const { return min(chunk, lane.length - c * chunk); }
  // Whether the chunk is the last one of its lane, and whether the only one.
  DEVICE bool is_last(int chunk) const { return (c + 1) * chunk >= lane.length; }
  DEVICE bool is_whole(int chunk) const { return chunk >= lane.length; }

  DEVICE void find(const Map& map, int lanes, int chunk) {
    if (!there(lanes)) return;
    lane = find_lane(map, unit);
    c = is_whole(chunk) ? 0 : (lane.length - 1) / chunk;  // spares most lanes a division
    token = lane.entry + (long long)(c * chunk) * lane.step;
  }

  // On to the next chunk.
  DEVICE void advance(const Map& map, int lanes, int chunk) {
    token -= (long long)chunk * lane.step;
    if (--c >= 0) return;
    unit += gridDim.x;
    find(map, lanes, chunk);
  }
};

// Rows of numbers, one a token, of which a warp copies `chunks` of BYTES.
template <int BYTES>
struct Rows {
  const char* from;  // the launch's first token
  int token;         // bytes from token to token
  int chunks, there;

  template <typename T>
  DEVICE static Rows of(const T* first, int token, int columns, int numbers) {
    constexpr int SIZE = sizeof(T);
    return {reinterpret_cast<const char*>(first), token * SIZE, columns * SIZE / BYTES,
            numbers * SIZE / BYTES};
  }
};

// What a thread copies of each pair of steps: CHUNKS of BYTES are copied by the warp, one after the
// other. Which of them are the thread's is the same for all lanes.
template <int BYTES, int CHUNKS>
struct Share {
  static constexpr int COUNT = CHUNKS > 0 ? (CHUNKS + 31) / 32 : 1;
  const char* base[COUNT] = {};
  int token[COUNT] = {};
  bool second[COUNT] = {}, there[COUNT] = {};
  // The next pair of a chunk of a lane, and how many steps are left from the thread's on.
  const char* from[COUNT];
  int step[COUNT], left[COUNT] = {};
  // What the hardware does not copy is under way in registers until the next pair is copied, and goes
  // to `target` then: waited for at once, it would hold up the walk.
  static constexpr bool NARROW = BYTES < 4;
  bfloat16 under_way[COUNT];  // whatever the numbers are: two bytes, and zeros are zero
  bfloat16* target[COUNT] = {};

  DEVICE static int chunk(int i) { return threadIdx.x % 32u + 32 * i; }
  DEVICE static bool has_chunk(int i) { return CHUNKS % 32 == 0 || chunk(i) < CHUNKS; }

  // Add the thread's share of a pair of `rows`, which begin in the warp's at chunk `first`.
  DEVICE void take(const Rows<BYTES>& rows, int first) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      int mine = chunk(i) - first;
      if (mine < 0 || mine >= 2 * rows.chunks) continue;
      int column = mine % rows.chunks;
      second[i] = mine >= rows.chunks;
      there[i] = WHOLE_CHANNELS && WHOLE_STATES ? true : column < rows.there;
      token[i] = rows.token;
      base[i] = rows.from + column * BYTES;
    }
  }

  // Go to the start of a chunk of a lane. All directions share the rows whose chunks are those from
  // `shared` to `own`.
  DEVICE void find(const Map& map, const Cursor& at, int steps, int shared = 0, int own = 0) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      long long first = chunk(i) >= shared && chunk(i) < own ? at.token : at.own(map);
      if (second[i]) first += at.lane.step;
      from[i] = base[i] + first * token[i];
      step[i] = at.lane.step * token[i];
      left[i] = there[i] ? steps - second[i] : 0;
    }
  }

  // Begin to copy the next pair of steps; zeros in place of what is not there.
  DEVICE void copy(char* to) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      bfloat16* here = reinterpret_cast<bfloat16*>(to + chunk(i) * BYTES);
      const bfloat16* there = reinterpret_cast<const bfloat16*>(from[i]);
      if constexpr (NARROW) {
        under_way[i] = left[i] > 0 ? *there : from_float<bfloat16>(0.f);
        target[i] = has_chunk(i) ? here : nullptr;
      } else {
        copy_async<BYTES>(here, there, has_chunk(i), left[i] > 0);
      }
      from[i] += 2ll * step[i];
      left[i] -= 2;
    }
  }

  // Have the pair before arrive too, as far as it is in registers.
  DEVICE void finish() const {
    if constexpr (!NARROW) return;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
      if (target[i] != nullptr) *target[i] = under_way[i];
    }
  }
};

// What a thread copies, and where it finds it. Where B and C are copied in chunks of the same size as
// maps, they are more chunks of those: fewer instructions.
struct Source {
  static constexpr int MAP = 2 * WARP_CHANNELS * sizeof(NUMBER) / MAP_BYTES;
  static constexpr int GRADIENT_MAP = 2 * WARP_CHANNELS * sizeof(GRADIENT) / MAP_BYTES;
  static constexpr int MAPS = 2 * MAP + GRADIENT_MAP;
  static constexpr int SIDE_ROWS = 2 * STATES * sizeof(SIDE) / SIDE_BYTES;
  static constexpr bool TOGETHER = MAP_BYTES == SIDE_BYTES;
  Share<MAP_BYTES, MAPS + TOGETHER * SIDES * SIDE_ROWS> maps;
  Share<SIDE_BYTES, !TOGETHER * SIDES * SIDE_ROWS> sides;

  DEVICE Source(const Scan& scan, const GRADIENT* grad_y, int all_channels, int channel,
                int states) {
    typedef Rows<MAP_BYTES> Maps;
    int channels = all_channels - channel;
    maps.take(Maps::of(scan.x + channel, all_channels, WARP_CHANNELS, channels), 0);
    maps.take(Maps::of(scan.delta + channel, all_channels, WARP_CHANNELS, channels), MAP);
    maps.take(Maps::of(grad_y + channel, all_channels, WARP_CHANNELS, channels), 2 * MAP);
    if (B_TOKEN) take_side(scan.B, scan.B_token, states, 0);
    if (C_TOKEN) take_side(scan.C, scan.C_token, states, B_TOKEN * SIDE_ROWS);
  }

  DEVICE auto& of_sides() {
    if constexpr (TOGETHER) {
      return maps;
    } else {
      return sides;
    }
  }

  DEVICE void take_side(const SIDE* side, int token, int states, int first) {
    of_sides().take(Rows<SIDE_BYTES>::of(side, token, STATES, states), TOGETHER * MAPS + first);
  }

  DEVICE void find(const Map& map, const Cursor& at, int chunk) {
    int steps = at.steps(chunk);
    maps.find(map, at, steps, 2 * MAP, SHARED_Y ? MAPS : 0);
    if (SIDES > 0 && !TOGETHER) sides.find(map, at, steps);
  }

  // Begin to copy the next pair of steps, as a group of its own; zeros behind the chunk's end.
  DEVICE void copy(Stage& stage) {
    finish();
    maps.copy(reinterpret_cast<char*>(&stage.x));
    if (SIDES > 0 && !TOGETHER) sides.copy(reinterpret_cast<char*>(&stage.sides));
    commit_copies();
  }

  // Have the last pair arrive too, as far as it is not a group.
  DEVICE void finish() const {
    maps.finish();
    if (SIDES > 0 && !TOGETHER) sides.finish();
  }
};
