// How a warp shares out the channels and states that it scans.
//
// A thread owns CHANNELS_HELD neighbouring channels times STATES_HELD neighbouring states in
// registers. Sums over states and sums over channels are thus half done before threads have to
// exchange anything.
//
// Given to the compiler: STATES, the number of states a channel rounded up to a power of two;
// WHOLE_STATES, whether that changed nothing; WHOLE_CHANNELS, whether the last warp's tile is full
// too; VECTORS, whether a thread's channels, which then exist all or none, may be loaded at once.
#pragma once

#include "device.cuh"

constexpr int STATES_HELD = STATES < 4 ? STATES : 4;
constexpr int STATE_LANES = STATES / STATES_HELD;
constexpr int CHANNEL_LANES = 32 / STATE_LANES;
constexpr int CHANNELS_HELD = STATE_LANES == 1 ? 2 : 4;
constexpr int WARP_CHANNELS = CHANNEL_LANES * CHANNELS_HELD;
// What a thread keeps of its channels once they are summed over the states.
constexpr int CHANNELS_OWNED = CHANNELS_HELD > STATE_LANES ? CHANNELS_HELD / STATE_LANES : 1;

typedef float Channels[CHANNELS_HELD];
typedef float States[STATES_HELD];
typedef float Tile[CHANNELS_HELD][STATES_HELD];

// A thread's place in its warp's tile.
struct Place {
  int lane, channel, state, channels, states;

  DEVICE Place(int warp_channel, int channels, int states)
      : lane(threadIdx.x % 32),
        channel(warp_channel + lane / STATE_LANES * CHANNELS_HELD),
        state(lane % STATE_LANES * STATES_HELD),
        channels(channels),
        states(states) {}

  DEVICE bool has_channel(int c) const { return WHOLE_CHANNELS || channel + c < channels; }
  DEVICE bool has_state(int n) const { return WHOLE_STATES || state + n < states; }

  // Of the sums over states: the first channel that this thread is left with, and whether other
  // threads are left with the same.
  DEVICE int owned() const { return owned_sum<CHANNELS_HELD, STATE_LANES, 1>(lane); }
  DEVICE bool speaks() const {
    return STATE_LANES <= CHANNELS_HELD || lane % STATE_LANES < CHANNELS_HELD;
  }
};

// The thread's channels of one token, from its first one on; those that do not exist are zero.
template <typename T>
DEVICE void load_channels(Channels& out, const T* from, const Place& place) {
  if (WHOLE_CHANNELS) {
    Unpack<T, CHANNELS_HELD>::load(out, from);
    return;
  }
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) out[c] = 0.f;
  if (VECTORS) {
    if (place.has_channel(0)) Unpack<T, CHANNELS_HELD>::load(out, from);
  } else {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      if (place.has_channel(c)) out[c] = to_float(from[c]);
    }
  }
}

// The thread's states of one token's projection, likewise.
template <typename T>
DEVICE void load_states(States& out, const T* from, const Place& place) {
  if (WHOLE_STATES) {
    Unpack<T, STATES_HELD>::load(out, from);
  } else {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) out[n] = place.has_state(n) ? to_float(from[n]) : 0.f;
  }
}

// The thread's part of a (channels, states) matrix, times `factor`.
DEVICE void load_tile(Tile& out, const float* matrix, const Place& place, float factor) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      bool there = place.has_channel(c) && place.has_state(n);
      const float* from = matrix + (long long)(place.channel + c) * place.states + place.state + n;
      out[c][n] = there ? *from * factor : 0.f;
    }
  }
}

DEVICE void store_tile(float* matrix, const Tile& tile, const Place& place) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      if (!place.has_channel(c) || !place.has_state(n)) continue;
      matrix[(long long)(place.channel + c) * place.states + place.state + n] = tile[c][n];
    }
  }
}
