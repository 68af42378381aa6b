// Walking ahead along lanes, a stretch of STEPS tokens at a time.
//
// Given to the compiler, beside what scan.cuh needs: STEPS; SUMS, whether the outputs of all directions
// are summed; MAP_BYTES and SIDE_BYTES, which are copied at once of maps, and of B and C.
#pragma once

#include "scan.cuh"
#include "stage.cuh"

// The lanes of a launch. If SUMS, `lanes` counts those of one direction, and `numbers` has each
// direction's position among all, four bits each.
struct Work {
  Map map;
  int lanes;
  unsigned numbers;

  DEVICE Work(const Map& map, unsigned numbers) : map(map), lanes(map.lanes(0)), numbers(numbers) {
    if (SUMS) return;
    for (int k = 1; k < map.directions; ++k) lanes += map.lanes(k);
  }
};

// A warp's position on its way along the lanes. If SUMS, it walks along each in one direction after
// the other.
struct Cursor {
  int unit, turn, start;
  Lane lane;

  DEVICE Cursor(const Work& work) : unit(blockIdx.x), turn(0), start(0) { find_lane(work); }

  DEVICE bool there(const Work& work) const { return unit < work.lanes; }
  DEVICE int steps() const { return min(STEPS, lane.length - start); }
  // The stretch's first token, counted from its direction's.
  DEVICE long long own() const { return lane.entry + (long long)start * lane.step; }
  // Whether what has been added up on this lane is whole behind this walk along it.
  DEVICE bool is_last(const Map& map) const { return !SUMS || turn + 1 == map.directions; }
  // The lane's number among those of all directions.
  DEVICE int number(const Work& work) const { return SUMS ? lane.k * work.lanes + unit : unit; }

  DEVICE void find_lane(const Work& work) {
    if (!there(work)) return;
    lane = ::find_lane(work.map, SUMS ? turn * work.lanes + unit : unit);
    if (SUMS) lane.k = work.numbers >> 4 * turn & 15;
  }

  // On to the next stretch.
  DEVICE void advance(const Work& work) {
    start += STEPS;
    if (start < lane.length) return;
    start = 0;
    if (!SUMS || ++turn == work.map.directions) {
      turn = 0;
      unit += gridDim.x;
    }
    find_lane(work);
  }
};

// Copying a stretch's B or C, if it is a vector a token.
template <bool TOKEN>
struct SideCopy {
  static constexpr int TOKENS = TOKEN ? STEPS : 1;
  NarrowCopy<SIDE_BYTES, SIDE, TOKENS, STATES> copy;

  // From the stretch's first token.
  DEVICE void begin(Staged<SIDE, TOKENS, STATES>& to, const SIDE* from, int side_token,
                    const Cursor& at, int states) {
    if constexpr (TOKEN) copy.begin(to, from, at.lane.step * side_token, at.steps(), states);
  }

  DEVICE void finish(Staged<SIDE, TOKENS, STATES>& to) const {
    if constexpr (TOKEN) copy.finish(to);
  }
};
