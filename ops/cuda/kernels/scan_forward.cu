// Selective scan, in several directions (V2M, Eq. 9-15), for B and C that are each the constant 1 or
// one vector a token.
//
// A warp walks along its lanes a stretch of STEPS tokens at a time. While it computes one, the next
// is on its way into shared memory, also across the ends of lanes: they may be short.
//
// Given to the compiler, beside what scan_ahead.cuh needs: OUTPUT, the type of outputs; UNROLL, how
// many steps are unrolled; SUM_BYTES, which are copied at once of earlier sums.
#include "scan_ahead.cuh"

// What a warp reads of a stretch; of what it never reads, a single token.
struct Stage {
  Staged<NUMBER, STEPS, WARP_CHANNELS> x, delta;
  Staged<NUMBER, HAS_Z ? STEPS : 1, WARP_CHANNELS> z;
  Staged<SIDE, B_TOKEN ? STEPS : 1, STATES> B;
  Staged<SIDE, C_TOKEN ? STEPS : 1, STATES> C;
  Staged<OUTPUT, SUMS ? STEPS : 1, WARP_CHANNELS> before;
};

// A warp's copying of stretches.
struct Copy {
  SideCopy<B_TOKEN> B;
  SideCopy<C_TOKEN> C;

  // Begin with the stretch at a position; if `adds`, also with what earlier launches have left of it.
  DEVICE void begin(Stage& stage, const Scan& scan, const OUTPUT* y, const Map& map,
                    const Cursor& at, int channel, int states, bool adds) {
    int step = at.lane.step, map_step = step * map.channels, channels = map.channels - channel;
    long long own = at.own(), token = at.lane.k * map.tokens() + own;
    long long first = token * map.channels + channel;
    copy_tokens<MAP_BYTES>(stage.x, scan.x + first, map_step, at.steps(), channels);
    copy_tokens<MAP_BYTES>(stage.delta, scan.delta + first, map_step, at.steps(), channels);
    if (HAS_Z && at.is_last(map)) {
      const NUMBER* z = scan.z + own * scan.z_token + channel;
      copy_tokens<MAP_BYTES>(stage.z, z, step * scan.z_token, at.steps(), channels);
    }
    B.begin(stage.B, scan.B + token * scan.B_token, scan.B_token, at, states);
    C.begin(stage.C, scan.C + token * scan.C_token, scan.C_token, at, states);
    if (SUMS && adds) {
      const OUTPUT* sums = y + own * map.channels + channel;
      copy_tokens<SUM_BYTES>(stage.before, sums, map_step, at.steps(), channels);
    }
  }

  DEVICE void finish(Stage& stage) const {
    B.finish(stage.B);
    C.finish(stage.C);
  }
};

// The sums over states of what the thread's channels are read out as.
DEVICE void read_out(Channels& out, const Tile& state, const States& C) {
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    out[c] = 0.f;
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) out[c] += times_side<C_TOKEN>(state[c][n], C[n]);
  }
}

// A step, and what it is read out as: the sums of the channels from owned() on are at the front.
DEVICE void walk_step(Channels& out, Tile& state, const Stage& stage, const Place& place,
                      const Parameters& given, int j) {
  Step now;
  States C;
  read_channels(now.x, &stage.x.at[j][place.in_warp()], place);
  read_channels(now.dt, &stage.delta.at[j][place.in_warp()], place);
  read_side<B_TOKEN>(now.B, &stage.B.at[B_TOKEN ? j : 0][place.state], place);
  read_side<C_TOKEN>(C, &stage.C.at[C_TOKEN ? j : 0][place.state], place);
  finish_step(now, given.bias);
  advance(state, given.A_log2, now);
  read_out(out, state, C);
  sum_states(out, place);
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) {
    if (HAS_D) out[i] += given.skip[i] * now.x[i];
  }
}

// What the thread's own outputs of a step, at the front of `out`, go through at the end.
DEVICE void pass_gate(Channels& out, const Stage& stage, const Place& place, int j) {
  if (!HAS_Z) return;
  float z[CHANNELS_OWNED];
  read_numbers(z, &stage.z.at[HAS_Z ? j : 0][place.in_warp() + place.owned()]);
#pragma unroll
  for (int i = 0; i < CHANNELS_OWNED; ++i) out[i] *= z[i] * sigmoid(z[i]);
}

// Where the outputs of a stretch go. Those of all directions but the last are kept in shared memory
// (`sums`), whose tokens are `sums_step` apart; the last one's are stored, `y_step` apart.
struct Outlet {
  OUTPUT* y;
  float* sums;
  int y_step, sums_step;
  bool adds, first, last;

  DEVICE Outlet(OUTPUT* outputs, float* kept, const Work& work, const Cursor& at,
                const Place& place, bool again) {
    const Lane& lane = at.lane;
    const Map& map = work.map;
    long long token = (SUMS ? 0 : lane.k * map.tokens()) + lane.entry;
    y_step = lane.step * map.channels;
    y = outputs + token * map.channels + (long long)at.start * y_step + place.channel +
        place.owned();
    sums_step = lane.step < 0 ? -WARP_CHANNELS : WARP_CHANNELS;
    sums = kept + (lane.step < 0 ? lane.length - 1 : 0) * WARP_CHANNELS + at.start * sums_step;
    first = at.turn == 0;
    last = at.is_last(map);
    adds = again && first;
  }

  // Of the stretch's step j. The sums that the thread is left with are at the front of `out`.
  DEVICE void leave(Channels& out, const Stage& stage, const Place& place, int j) const {
    if (SUMS) {
      float* kept = sums + j * sums_step;
      float before[CHANNELS_OWNED] = {};
      if (adds) {
        read_numbers(before, &stage.before.at[SUMS ? j : 0][place.in_warp() + place.owned()]);
      } else if (!first) {
        read_numbers(before, kept);
      }
#pragma unroll
      for (int i = 0; i < CHANNELS_OWNED; ++i) out[i] += before[i];
      if (!last) {
#pragma unroll
        for (int i = 0; i < CHANNELS_OWNED; ++i) kept[i] = out[i];
        return;
      }
    }
    pass_gate(out, stage, place, j);
    place.store_owned(y + j * y_step, out);
  }
};

// Grid: (any number of blocks, which share out the lanes; groups of WARP_CHANNELS channels for each
// warp of a block). Each warp has two stages in shared memory.
//
// If SUMS, all directions of the map walk along one axis. What they leave is added up in order; where
// there are several, shared memory has `length` tokens for that, as many as the longest lane. `adds`
// says whether earlier launches have left outputs already; a gate is for the last one, and for all
// that has been added up.
//
// Shapes: y (K, tokens, E), or (tokens, E) if SUMS.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    scan_forward(Scan scan, OUTPUT* y, Map map, unsigned numbers, int adds, int states,
                 int length) {
  SHARED(Stage, stages);
  int number = threadIdx.x / 32, warps = blockDim.x / 32;
  int channel = (blockIdx.y * warps + number) * WARP_CHANNELS;
  Place place(channel, map.channels, states);
  Parameters given(scan, place);
  Work work(map, numbers);
  Stage* stage = stages + 2 * number;
  float* sums = reinterpret_cast<float*>(stages + 2 * warps) + number * length * WARP_CHANNELS +
                place.in_warp() + place.owned();
  Tile state;
  Copy copy;

  Cursor next(work);
  if (next.there(work)) copy.begin(stage[0], scan, y, map, next, channel, states, adds);
  commit_copies();
  if (next.there(work)) copy.finish(stage[0]);
  for (int turn = 0; next.there(work); turn ^= 1) {
    Cursor now = next;
    next.advance(work);
    if (next.there(work)) {
      bool first = next.turn == 0;
      copy.begin(stage[turn ^ 1], scan, y, map, next, channel, states, adds && first);
    }
    commit_copies();
    await_copies<1>();
    __syncwarp();
    if (now.start == 0) {
      clear(state);
      load_edge(state, scan.start, now.number(work), place);
    }
    Outlet outlet(y, sums, work, now, place, adds);
    int steps = now.steps();
#pragma unroll UNROLL
    for (int j = 0; j < steps; ++j) {
      Channels out;
      walk_step(out, state, stage[turn], place, given, j);
      outlet.leave(out, stage[turn], place, j);
    }
    if (next.there(work)) copy.finish(stage[turn ^ 1]);
    __syncwarp();  // the stage is free for the next stretch but one
  }
}
