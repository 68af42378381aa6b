// The exact 2D recurrence ahead: a warp walks down a strip of a map, row by row.
//
// The states q of a row are kept in shared memory; p goes to the next strip through global memory.
//
// Given to the compiler, beside what coupled.cuh needs: SAVES, whether what crosses edges is left for
// the backward pass, instead of y; STEPS, tokens that are put into shared memory at a time.
#include "coupled.cuh"

// A warp's part of shared memory.
struct Memory {
  float* q;
  Token* tokens;
  float *B, *C;

  DEVICE Memory(float* memory, const Maps& map) {
    int of_warp = map.strip * WARP_PATCH + 4 * STEPS * WARP_CHANNELS + 4 * STEPS * STATES;
    q = memory + threadIdx.x / 32 * of_warp;
    tokens = reinterpret_cast<Token*>(q + map.strip * WARP_PATCH);
    B = reinterpret_cast<float*>(tokens + STEPS * WARP_CHANNELS);
    C = B + 2 * STEPS * STATES;
  }
};

// What a token's states are read out as: the sums of the channels from owned() on are at the front.
DEVICE void read_out(Channels& out, const Tile& p, const Tile& q, const Step& now, const float* C_token,
                     const Channels& skip, const Place& place) {
  States C[2];
  read_side(C[0], C_token, 0, place);
  read_side(C[1], C_token, 1, place);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    out[c] = 0.f;
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) out[c] += C[0][n] * p[c][n] + C[1][n] * q[c][n];
  }
  sum_states(out, place);
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) {
    if (HAS_D) out[i] += skip[i] * now.x[i];
  }
}

// Grid: (strips * images * blocks of channels), in the order in which blocks start: a strip waits
// only for blocks in front of its own.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    coupled_forward(Coupled scan, Maps map, Edges edges, NUMBER* y) {
  SHARED(float, shared);
  int columns = map.channel_blocks(), unit = blockIdx.x / columns;
  int group = blockIdx.x % columns * WARPS + threadIdx.x / 32;
  int warp_channel = group * WARP_CHANNELS;
  Strip strip(map, unit / map.images(), unit % map.images());
  if (!strip.there() || (!SAVES && warp_channel >= map.channels)) return;
  Place place(warp_channel, map.channels, map.states);
  Rates rates(scan, place);
  Memory memory(shared, map);
  Channels skip;
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    int channel = place.channel_at(c);
    skip[c] = HAS_D && place.has_channel(channel) ? scan.D[place.channel + channel] : 0.f;
  }
  NUMBER* y_image = SAVES ? nullptr
                          : y + strip.first_token * map.channels + place.channel + place.owned();

  for (int row = 0; row < strip.rows; ++row) {
    Tile p, q;
    if (strip.number > 0) {
      await_word(edges.done_at(map, strip.number - 1, strip.image, group), row + 1);
      load_patch(p, edges.p_at(map, strip.number - 1, row, strip.image, group), place.lane);
    } else {
      clear(p);
    }
    int tile = SAVES && (row + 1) % map.tile == 0 && row + 1 < strip.rows ? (row + 1) / map.tile : 0;
    for (int first = 0; first < strip.columns; first += STEPS) {
      int tokens = min(STEPS, strip.columns - first);
      __syncwarp();  // what is there has been read
      stage_tokens(memory.tokens, scan, nullptr, map, strip, row, first, tokens, warp_channel);
      stage_sides(memory.B, scan.B, scan.B_token, map, strip, row, first, tokens, place.lane, 32);
      if (!SAVES) {
        stage_sides(memory.C, scan.C, scan.C_token, map, strip, row, first, tokens, place.lane, 32);
      }
      __syncwarp();
#pragma unroll 2
      for (int t = 0; t < tokens; ++t) {
        Step now;
        now.read(memory.tokens + t * WARP_CHANNELS, place);
        float* kept = memory.q + (first + t) * WARP_PATCH;
        if (row > 0) {
          load_patch(q, kept, place.lane);
        } else {
          clear(q);
        }
        advance(p, q, now, rates, memory.B + 2 * t * STATES, place);
        store_patch(kept, q, place.lane);
        if (SAVES) {
          if (tile == 0) continue;
          int column = strip.number * map.strip + first + t;
          store_patch(edges.q_at(map, tile, column, strip.image, group), q, place.lane);
        } else {
          Channels out;
          read_out(out, p, q, now, memory.C + 2 * t * STATES, skip, place);
          place.store_owned(y_image + strip.token(row, first + t) * map.channels, out);
        }
      }
    }
    if (!strip.is_last()) {
      store_patch(edges.p_at(map, strip.number, row, strip.image, group), p, place.lane);
      __syncwarp();
      if (place.lane == 0) {
        publish_word(edges.done_at(map, strip.number, strip.image, group), row + 1);
      }
    }
  }
}
