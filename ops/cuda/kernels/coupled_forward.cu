// The exact 2D recurrence ahead: a warp walks down a strip of a map, row by row.
//
// The states q of a row are kept in shared memory; p goes to the next strip through global memory.
//
// Given to the compiler, beside what coupled.cuh needs: SAVES, whether what crosses edges is left for
// the backward pass, instead of y; STEPS, tokens that are put into shared memory at a time.
#include "coupled.cuh"

// A warp's part of shared memory.
struct Memory {
  float *q, *sides;
  Token* tokens;

  DEVICE Memory(float* memory, const Maps& map) {
    int of_warp = map.strip * WARP_PATCH + STEPS * (4 * WARP_CHANNELS + BOTH_SIDES);
    q = memory + threadIdx.x / 32 * of_warp;
    tokens = reinterpret_cast<Token*>(q + map.strip * WARP_PATCH);
    sides = reinterpret_cast<float*>(tokens + STEPS * WARP_CHANNELS);
  }
};

// A warp's copying of the next tokens: under way in registers while the present ones are computed.
struct Stage {
  static constexpr int TOKENS_AT_ONCE = TokenStage<1, false>::AT_ONCE;
  static constexpr int SIDES_AT_ONCE = SideStage<1, 32>::AT_ONCE;
  TokenStage<SWEEPS_FOR<STEPS, TOKENS_AT_ONCE>, false> tokens;
  SideStage<SWEEPS_FOR<STEPS, SIDES_AT_ONCE>, 32> sides;

  DEVICE Stage(const Coupled& scan, const Maps& map, const Strip& strip, int warp_channel)
      : tokens(scan, nullptr, map, strip, warp_channel),
        sides(scan, map, strip, threadIdx.x % 32) {}

  DEVICE void begin(const Strip& strip, int row, int first) {
    if (row >= strip.rows) return;
    int count = min(STEPS, strip.columns - first), token = strip.token(row, first);
    tokens.begin(token, strip.column_step, count);
    sides.begin(token, strip.column_step, count);
  }

  DEVICE void finish(const Memory& memory, int count) const {
    tokens.finish(memory.tokens, count);
    sides.finish(memory.sides, count);
  }
};

// What a token's states are read out as: the sums of the channels from owned() on are at the front.
DEVICE void read_out(Channels& out, const Tile& p, const Tile& q, const Step& now, const float* sides,
                     const Channels& skip, const Place& place) {
  States C[2];
  read_numbers(C[0], sides + SIDE);
  read_numbers(C[1], sides + SIDE + STATES);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    out[c] = C[0][0] * p[c][0];
    out[c] += C[1][0] * q[c][0];
#pragma unroll
    for (int n = 1; n < STATES_HELD; ++n) {
      out[c] += C[0][n] * p[c][n];
      out[c] += C[1][n] * q[c][n];
    }
  }
  sum_states(out, place);
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) {
    if (HAS_D) out[i] += skip[i] * now.x[i];
  }
}

template <bool FOLDED>
DEVICE void walk(const Coupled& scan, const Maps& map, const Edges& edges, NUMBER* y,
                 const Memory& memory, const Strip& strip, const Place& place, int group) {
  Rates<FOLDED> rates(scan, place);
  Stage stage(scan, map, strip, group * WARP_CHANNELS);
  Channels skip;
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    int channel = place.channel_at(c);
    skip[c] = HAS_D && place.has_channel(channel) ? scan.D[place.channel + channel] : 0.f;
  }
  if (!SAVES) y += strip.first_token * map.channels + place.channel + place.owned();
  long long edge_step = (long long)map.images() * map.groups() * WARP_PATCH;
  Tile p, q;
  clear(q);
  for (int column = 0; column < strip.columns; ++column) {
    store_patch(memory.q + column * WARP_PATCH, q, place.lane);
  }
  stage.begin(strip, 0, 0);
  for (int row = 0; row < strip.rows; ++row) {
    clear(p);
    if (strip.number > 0) {
      await_word(edges.done_at(map, strip, strip.number - 1, group), row + 1);
      load_patch(p, edges.p_at(map, strip, strip.number - 1, row, group), place.lane);
    }
    bool keeps = SAVES && (row + 1) % map.tile == 0 && row + 1 < strip.rows;
    for (int first = 0; first < strip.columns; first += STEPS) {
      int tokens = min(STEPS, strip.columns - first);
      bool ends = first + STEPS >= strip.columns;
      __syncwarp();  // what is there has been read
      stage.finish(memory, tokens);
      stage.begin(strip, ends ? row + 1 : row, ends ? 0 : first + STEPS);
      __syncwarp();
      const Token* token = memory.tokens + place.in_warp();
      const float* sides = memory.sides + place.state;
      float* kept = memory.q + first * WARP_PATCH;
      float* edge = nullptr;
      if (keeps) edge = edges.q_at(map, strip, (row + 1) / map.tile, first, group);
      int y_at = strip.token(row, first) * map.channels, y_step = strip.column_step * map.channels;
#pragma unroll 2
      for (int t = 0; t < tokens; ++t) {
        Step now;
        now.read(token, place);
        load_patch(q, kept, place.lane);
        advance(p, q, now, rates, sides);
        store_patch(kept, q, place.lane);
        if (SAVES) {
          if (keeps) store_patch(edge + t * edge_step, q, place.lane);
        } else {
          Channels out;
          read_out(out, p, q, now, sides, skip, place);
          place.store_owned(y + y_at, out);
          y_at += y_step;
        }
        token += WARP_CHANNELS;
        sides += BOTH_SIDES;
        kept += WARP_PATCH;
      }
    }
    if (!strip.is_last()) {
      store_patch(edges.p_at(map, strip, strip.number, row, group), p, place.lane);
      __syncwarp();
      if (place.lane == 0) {
        publish_word(edges.done_at(map, strip, strip.number, group), row + 1);
      }
    }
  }
}

// Grid: (strips * images * blocks of channels), in the order in which blocks start: a strip waits
// only for blocks in front of its own.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    coupled_forward(Coupled scan, Maps map, Edges edges, NUMBER* y) {
  SHARED(float, shared);
  int columns = map.channel_blocks(), unit = blockIdx.x / columns;
  int group = blockIdx.x % columns * WARPS + threadIdx.x / 32;
  Strip strip(map, unit / map.images(), unit % map.images());
  if (!strip.there() || (!SAVES && group * WARP_CHANNELS >= map.channels)) return;
  Place place(group * WARP_CHANNELS, map.channels, map.states);
  Memory memory(shared, map);
  if (weights_fold(scan, place)) {
    walk<true>(scan, map, edges, y, memory, strip, place, group);
  } else {
    walk<false>(scan, map, edges, y, memory, strip, place, group);
  }
}
