// How a warp shares out the channels and states that it scans.
//
// A thread owns CHANNELS_HELD neighbouring channels times STATES_HELD neighbouring states in
// registers. Sums over states and sums over channels are thus half done before threads have to
// exchange anything.
//
// Given to the compiler, beside what channels.cuh needs: STATES, the number of states a channel
// rounded up to a power of two; STATES_HELD; WHOLE_STATES, whether the rounding changed nothing.
#pragma once

#include "channels.cuh"

constexpr int STATE_LANES = STATES / STATES_HELD;
constexpr int CHANNEL_LANES = 32 / STATE_LANES;
constexpr int WARP_CHANNELS = CHANNEL_LANES * CHANNELS_HELD;
// What a thread keeps of its channels once they are summed over the states.
constexpr int CHANNELS_OWNED = CHANNELS_HELD > STATE_LANES ? CHANNELS_HELD / STATE_LANES : 1;
// Threads hold their channels in an order of their own, those that they are left with in front.
constexpr int CHANNEL_BITS = CHANNELS_HELD - CHANNELS_OWNED;

typedef float States[STATES_HELD];
typedef float Tile[CHANNELS_HELD][STATES_HELD];

// A thread's place in its warp's tile. Where there are sums over channels, states have an order of
// their own too.
struct Place : ChannelPlace {
  int lane, state, states, state_order;

  DEVICE Place(int warp_channel, int channels, int states, int state_order = 0)
      : lane(opaque(threadIdx.x % 32)),
        state(lane % STATE_LANES * STATES_HELD),
        states(states),
        state_order(state_order) {
    this->channel = warp_channel + in_warp();
    this->channels = channels;
  }

  // The first channel, counted from the warp's first one.
  DEVICE int in_warp() const { return lane / STATE_LANES * CHANNELS_HELD; }

  // Which of its channels and of its states a thread holds as the c-th and the n-th.
  DEVICE int channel_at(int c) const { return c ^ owned(); }
  DEVICE int state_at(int n) const { return n ^ state_order; }
  DEVICE bool has_state(int n) const { return WHOLE_STATES || state + state_at(n) < states; }

  // Of the sums over states: the first channel that this thread is left with, and whether other
  // threads are left with the same.
  DEVICE int owned() const { return owned_sum<CHANNELS_HELD, STATE_LANES, 1>(lane); }
  DEVICE bool speaks() const {
    return STATE_LANES <= CHANNELS_HELD || lane % STATE_LANES < CHANNELS_HELD;
  }

  // Store the sums over states that the thread is left with, which are at the front of `sums`; `to`
  // is the first one's place. All channels that it holds go at once.
  template <typename T>
  DEVICE void store_owned(T* to, const Channels& sums) const {
    if (CHANNELS_OWNED == CHANNELS_HELD) {
      store(to, sums);
      return;
    }
#pragma unroll
    for (int i = 0; i < CHANNELS_OWNED; ++i) {
      if (has_channel(owned() + i) && speaks()) to[i] = from_float<T>(sums[i]);
    }
  }
};

// A token's numbers of the thread's channels.
template <typename T>
DEVICE void read_channels(Channels& out, const T* from, const Place& place) {
  read_ordered<CHANNEL_BITS>(out, from, place.owned());
}

// Sum channels over the states.
DEVICE void sum_states(Channels& sums, const Place& place) {
  spread_sum<CHANNELS_HELD, STATE_LANES, 1, CHANNEL_BITS>(sums, place.lane);
}

DEVICE void clear(Tile& tile) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) tile[c][n] = 0.f;
  }
}

// The thread's part of a (channels, columns) matrix, of which its states are some of the columns,
// times `factor`.
DEVICE void load_tile(Tile& out, const float* matrix, int columns, const Place& place,
                      float factor = 1.f) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      int channel = place.channel_at(c), state = place.state + place.state_at(n);
      bool there = place.has_channel(channel) && place.has_state(n);
      const float* from = matrix + (long long)(place.channel + channel) * columns + state;
      out[c][n] = there ? *from * factor : 0.f;
    }
  }
}

DEVICE void store_tile(float* matrix, const Tile& tile, const Place& place) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      int channel = place.channel_at(c), state = place.state + place.state_at(n);
      if (!place.has_channel(channel) || !place.has_state(n)) continue;
      matrix[(long long)(place.channel + channel) * place.states + state] = tile[c][n];
    }
  }
}
