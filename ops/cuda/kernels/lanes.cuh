// Where a lane of a map begins and how far its tokens are apart: all that a direction is.
#pragma once

#include "device.cuh"

// The maps of a launch: K directions of (tokens, channels), tokens numbered row by row, image by
// image. Bit k of `reverse` and `along_h` belongs to direction k. Every lane is cut into `segments`,
// the same for both senses, of `segment_steps` tokens each; the last one may be shorter.
struct Map {
  int batch, height, width, channels, directions;
  unsigned reverse, along_h;
  int segments, segment_steps;

  DEVICE long long tokens() const { return (long long)batch * height * width; }
  DEVICE int lanes(int k) const { return segments * batch * (is_along_h(k) ? width : height); }
  DEVICE int length(int k) const { return is_along_h(k) ? height : width; }
  DEVICE bool is_along_h(int k) const { return along_h >> k & 1; }
};

// A walk over one lane, or segment of a lane, of one direction. Its first token counts from the
// direction's own first one.
struct Lane {
  int k, length;
  long long entry;
  int step;
};

// Lane number `unit`, counted through all directions, segment by segment.
DEVICE Lane find_lane(const Map& map, int unit) {
  int k = 0;
  while (unit >= map.lanes(k)) unit -= map.lanes(k++);
  int whole = unit, first = 0;
  if (map.segments > 1) {  // spares most launches a division
    whole = unit / map.segments;
    first = unit % map.segments * map.segment_steps;
  }
  int length = min(map.segment_steps, map.length(k) - first);
  long long start = (long long)whole * map.width;
  if (map.is_along_h(k)) {
    start = (long long)(whole / map.width) * map.height * map.width + whole % map.width;
  }
  int step = map.is_along_h(k) ? map.width : 1;
  bool reverse = map.reverse >> k & 1;
  start += (long long)(reverse ? first + length - 1 : first) * step;
  return {k, length, start, reverse ? -step : step};
}
