// The neighbouring channels that a thread holds of a token.
//
// Given to the compiler: CHANNELS_HELD, how many; WHOLE_CHANNELS, whether every thread of every warp
// has that many; VECTORS, whether a thread's channels, which then exist all or none, may be loaded
// at once.
#pragma once

#include "device.cuh"

typedef float Channels[CHANNELS_HELD];

// A thread's first channel, and how many there are in all.
struct ChannelPlace {
  int channel, channels;

  DEVICE bool has_channel(int c) const { return WHOLE_CHANNELS || channel + c < channels; }

  // What one token has at `from`, the address of the thread's first channel; else zero.
  template <typename T>
  DEVICE void load(Numbers<T, CHANNELS_HELD>& out, const T* from, bool there = true) const {
    if (WHOLE_CHANNELS || VECTORS) {
      if (there && has_channel(0)) {
        out.load(from);
      } else {
        out.clear();
      }
      return;
    }
    out.clear();
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      if (there && has_channel(c)) out.set(c, from[c]);
    }
  }

  template <typename T>
  DEVICE void load(Channels& out, const T* from, bool there = true) const {
    Numbers<T, CHANNELS_HELD> numbers;
    load(numbers, from, there);
    numbers.get(out);
  }

  template <typename T>
  DEVICE void store(T* to, const Channels& values, bool there = true) const {
    if (WHOLE_CHANNELS || VECTORS) {
      Pack<T, CHANNELS_HELD> pack;
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) pack.at[c] = from_float<T>(values[c]);
      if (there && has_channel(0)) *reinterpret_cast<Pack<T, CHANNELS_HELD>*>(to) = pack;
      return;
    }
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      if (there && has_channel(c)) to[c] = from_float<T>(values[c]);
    }
  }
};
