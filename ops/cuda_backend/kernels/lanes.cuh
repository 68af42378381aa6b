// Where a lane of a map begins and how far its tokens are apart: all that a direction is.
#pragma once

#include "device.cuh"

// The maps of a launch: K directions of (tokens, channels), tokens numbered row by row, image by
// image. Bit k of `reverse` and `along_h` belongs to direction k.
struct Map {
  int batch, height, width, channels, directions;
  unsigned reverse, along_h;

  DEVICE long long tokens() const { return (long long)batch * height * width; }
  DEVICE int lanes(int k) const { return batch * ((along_h >> k) & 1 ? width : height); }
  DEVICE int length(int k) const { return (along_h >> k) & 1 ? height : width; }
};

// A walk over one lane of one direction. Its first token counts from the direction's own first one.
struct Lane {
  int k, length;
  long long entry;
  int step;
};

// Lane number `unit`, counted through all directions.
DEVICE Lane find_lane(const Map& map, int unit) {
  int k = 0;
  while (unit >= map.lanes(k)) unit -= map.lanes(k++);
  bool along_h = (map.along_h >> k) & 1, reverse = (map.reverse >> k) & 1;
  long long start = (long long)unit * map.width;
  if (along_h) start = (long long)(unit / map.width) * map.height * map.width + unit % map.width;
  int length = map.length(k), step = along_h ? map.width : 1;
  if (reverse) start += (long long)(length - 1) * step;
  return {k, length, start, reverse ? -step : step};
}
