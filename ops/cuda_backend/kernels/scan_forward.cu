// Selective scan, in several directions (V2M, Eq. 9-15), for B and C that are each the constant 1 or
// one vector a token.
//
// Given to the compiler, beside what scan.cuh needs: SUMS, whether the outputs of all directions are
// summed; OUTPUT, the type of outputs; STEPS, tokens whose loads are under way together.
#include "scan.cuh"

typedef Numbers<NUMBER, CHANNELS_HELD> Held;

// The sums over states of what the thread's channels are read out as.
DEVICE void read_out(Channels& out, const Tile& state, const States& C) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    out[c] = 0.f;
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) out[c] += times_side<C_TOKEN>(state[c][n], C[n]);
  }
}

// Walk along a lane and leave its outputs at `y`, or add them `again` to what is there.
DEVICE void walk_lane(const Walk& walk, const Place& place, const Parameters& given, Tile& state,
                      OUTPUT* y, int length, bool again) {
  int owned = place.owned();
  OUTPUT* mine = y + owned;
  for (int start = 0; start < length; start += STEPS) {
    Held xs[STEPS], deltas[STEPS];
    float before[STEPS][CHANNELS_OWNED];
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      int at = (start + j) * walk.map_step;
      bool there = start + j < length;
      place.load(xs[j], walk.x + at, there);
      place.load(deltas[j], walk.delta + at, there);
#pragma unroll
      for (int i = 0; i < CHANNELS_OWNED; ++i) {
        bool added = SUMS && again && there && place.has_channel(owned + i);
        before[j][i] = added ? to_float(mine[at + i]) : 0.f;
      }
    }
#pragma unroll
    for (int j = 0; j < STEPS; ++j) {
      int t = start + j;
      if (t >= length) break;
      Step now;
      States C;
      xs[j].get(now.x);
      deltas[j].get(now.dt);
      finish_step(now, walk, place, given.bias, t);
      if (C_TOKEN) {
        load_states(C, walk.C + t * walk.C_step, place);
      } else {
        load_ones(C, place);
      }
      advance(state, given.A_log2, now);
      Channels out;
      read_out(out, state, C);
      spread_sum<CHANNELS_HELD, STATE_LANES, 1>(out, place.lane);
#pragma unroll
      for (int i = 0; i < CHANNELS_OWNED; ++i) {
        if (HAS_D) out[i] += pick(given.skip, owned + i) * pick(now.x, owned + i);
        if (SUMS) out[i] += before[j][i];
        if (place.has_channel(owned + i) && place.speaks()) {
          mine[t * walk.map_step + i] = from_float<OUTPUT>(out[i]);
        }
      }
    }
  }
}

// Grid: (any number of blocks, which share out the lanes; groups of WARPS * WARP_CHANNELS
// channels). If SUMS, all directions of the map walk along one axis, and a warp walks along its
// lanes in all of them, so that their outputs are added up in order; `numbers` has each one's
// position among all directions, four bits each, and `adds` says whether launches for the other axis
// have left outputs already.
//
// Shapes: y (K, tokens, E), or (tokens, E) if SUMS.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    scan_forward(Scan scan, OUTPUT* y, Map map, unsigned numbers, int adds, int states) {
  int warp = blockIdx.y * WARPS + threadIdx.x / 32;
  Place place(warp * WARP_CHANNELS, map.channels, states);
  Parameters given(scan, place);
  int lanes = map.lanes(0);
  if (!SUMS) {
    for (int k = 1; k < map.directions; ++k) lanes += map.lanes(k);
  }
  for (int unit = blockIdx.x; unit < lanes; unit += gridDim.x) {
    for (int i = 0; i < (SUMS ? map.directions : 1); ++i) {
      Lane lane = find_lane(map, SUMS ? i * lanes + unit : unit);
      Tile state = {};
      load_edge(state, scan.start, SUMS ? i * lanes + unit : unit, place);
      if (SUMS) lane.k = numbers >> 4 * i & 15;
      Walk walk(scan, map, lane, place);
      long long first = SUMS ? lane.entry : walk.entry;
      OUTPUT* out = y + first * map.channels + place.channel;
      walk_lane(walk, place, given, state, out, lane.length, adds || i > 0);
    }
  }
}
