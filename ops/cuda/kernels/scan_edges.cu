// What each segment of a long lane does to the state that crosses it, so that all segments can be
// scanned at once (chain_edges.cu has the rest): what it adds to the state, and the sum of its time
// steps, which tells how far the state decays. With output gradients, also what it adds to the gradient
// of the state that enters it: sums of output gradients, each as far decayed as the walk has come.
//
// Given to the compiler, beside what scan_ahead.cuh needs: ADJOINT, whether there are output gradients;
// GRADIENT, their type; GRADIENT_BYTES, which are copied of them at once; UNROLL, how many steps are
// unrolled. For single states B_TOKEN and C_TOKEN say what there may be, and null pointers that there
// is none, so that one kernel serves scans of either.
#include "scan_ahead.cuh"

// What a warp reads of a stretch; of what it never reads, a single token.
struct Stage {
  Staged<NUMBER, STEPS, WARP_CHANNELS> x, delta;
  Staged<NUMBER, ADJOINT && HAS_Z ? STEPS : 1, WARP_CHANNELS> z;
  Staged<GRADIENT, ADJOINT ? STEPS : 1, WARP_CHANNELS> grad_y;
  Staged<SIDE, B_TOKEN ? STEPS : 1, STATES> B;
  Staged<SIDE, ADJOINT && C_TOKEN ? STEPS : 1, STATES> C;
};

// In place of a B or C that is not there, which is never copied.
template <int TOKENS>
DEVICE void fill_with_ones(Staged<SIDE, TOKENS, STATES>& to) {
  for (int i = threadIdx.x % 32; i < TOKENS * STATES; i += 32) {
    (&to.at[0][0])[i] = from_float<SIDE>(1.f);
  }
}

// A warp's copying of stretches.
struct Copy {
  SideCopy<B_TOKEN> B;
  SideCopy<ADJOINT && C_TOKEN> C;

  // Begin with the stretch at a position. If `shared`, one output gradient serves all directions.
  DEVICE void begin(Stage& stage, const Scan& scan, const GRADIENT* grad_y, bool shared,
                    const Map& map, const Cursor& at, int channel, int states) {
    int step = at.lane.step, map_step = step * map.channels, channels = map.channels - channel;
    long long own = at.own(), token = at.lane.k * map.tokens() + own;
    long long first = token * map.channels + channel;
    copy_tokens<MAP_BYTES>(stage.x, scan.x + first, map_step, at.steps(), channels);
    copy_tokens<MAP_BYTES>(stage.delta, scan.delta + first, map_step, at.steps(), channels);
    if (scan.B) B.begin(stage.B, scan.B + token * scan.B_token, scan.B_token, at, states);
    if (!ADJOINT) return;
    const GRADIENT* from = grad_y + (shared ? own : token) * map.channels + channel;
    copy_tokens<GRADIENT_BYTES>(stage.grad_y, from, map_step, at.steps(), channels);
    if (HAS_Z) {
      const NUMBER* z = scan.z + token * scan.z_token + channel;
      copy_tokens<MAP_BYTES>(stage.z, z, step * scan.z_token, at.steps(), channels);
    }
    if (scan.C) C.begin(stage.C, scan.C + token * scan.C_token, scan.C_token, at, states);
  }

  DEVICE void finish(Stage& stage, const Scan& scan) const {
    if (scan.B) B.finish(stage.B);
    if (ADJOINT && scan.C) C.finish(stage.C);
  }
};

// What a warp has found of its segment so far.
struct Found {
  Tile state, grad, decay;
  Channels total;

  DEVICE void clear() {
    ::clear(state);
    ::clear(grad);
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      total[c] = 0.f;
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) decay[c][n] = 1.f;
    }
  }

  DEVICE void walk_step(const Stage& stage, const Place& place, const Parameters& given, int j) {
    Step now;
    Tile one;
    read_channels(now.x, &stage.x.at[j][place.in_warp()], place);
    read_channels(now.dt, &stage.delta.at[j][place.in_warp()], place);
    read_side<B_TOKEN>(now.B, &stage.B.at[B_TOKEN ? j : 0][place.state], place);
    finish_step(now, given.bias);
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      total[c] += now.dt[c];
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) {
        one[c][n] = exp2_approx(now.dt[c] * given.A_log2[c][n]);
        state[c][n] = one[c][n] * state[c][n] + times_side<B_TOKEN>(now.u[c], now.B[n]);
      }
    }
    if (ADJOINT) add_gradient(stage, place, one, j);
  }

  DEVICE void add_gradient(const Stage& stage, const Place& place, const Tile& one, int j) {
    Channels dy;
    States C;
    read_channels(dy, &stage.grad_y.at[ADJOINT ? j : 0][place.in_warp()], place);
    read_side<C_TOKEN>(C, &stage.C.at[ADJOINT && C_TOKEN ? j : 0][place.state], place);
    if (HAS_Z) {
      Channels z;
      read_channels(z, &stage.z.at[ADJOINT && HAS_Z ? j : 0][place.in_warp()], place);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) dy[c] *= z[c] * sigmoid(z[c]);
    }
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) {
        decay[c][n] *= one[c][n];
        grad[c][n] += decay[c][n] * times_side<C_TOKEN>(dy[c], C[n]);
      }
    }
  }

  // Leave it as that of segment `unit`; gradients lie behind the states of all `units`.
  DEVICE void store(float* edges, float* totals, int unit, int units, const Place& place) const {
    long long row = (long long)unit * place.channels + place.channel;
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      int channel = place.channel_at(c);
      if (!place.has_channel(channel)) continue;
      if (place.state == 0) totals[row + channel] = total[c];
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) {
        float* to = edges + (row + channel) * STATES + place.state + n;
        *to = state[c][n];
        if (ADJOINT) to[(long long)units * place.channels * STATES] = grad[c][n];
      }
    }
  }
};

// Grid: (any number of blocks, which share out the segments; groups of WARP_CHANNELS channels for
// each warp of a block). Each warp has two stages in shared memory.
//
// Shapes: grad_y (K, tokens, E), or (tokens, E) if `shared`; edges (1, or 2 with output gradients,
// segments, E, STATES), states before gradients; totals (segments, E). Segments are those of all lanes
// of all directions.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    scan_edges(Scan scan, const GRADIENT* grad_y, int shared, Map map, float* edges,
               float* totals, int states) {
  SHARED(Stage, stages);
  int number = threadIdx.x / 32;
  int channel = (blockIdx.y * (blockDim.x / 32) + number) * WARP_CHANNELS;
  Place place(channel, map.channels, states);
  Parameters given(scan, place);
  Work work(map, 0);
  Stage* stage = stages + 2 * number;
  for (int i = 0; i < 2; ++i) {
    if (B_TOKEN && !scan.B) fill_with_ones(stage[i].B);
    if (ADJOINT && C_TOKEN && !scan.C) fill_with_ones(stage[i].C);
  }
  Copy copy;
  Found found;
  found.clear();

  Cursor next(work);
  if (next.there(work)) copy.begin(stage[0], scan, grad_y, shared, map, next, channel, states);
  commit_copies();
  if (next.there(work)) copy.finish(stage[0], scan);
  for (int turn = 0; next.there(work); turn ^= 1) {
    Cursor now = next;
    next.advance(work);
    bool more = next.there(work);
    if (more) copy.begin(stage[turn ^ 1], scan, grad_y, shared, map, next, channel, states);
    commit_copies();
    await_copies<1>();
    __syncwarp();
    int steps = now.steps();
#pragma unroll UNROLL
    for (int j = 0; j < steps; ++j) found.walk_step(stage[turn], place, given, j);
    if (now.start + steps == now.lane.length) {
      found.store(edges, totals, now.unit, work.lanes, place);
      found.clear();
    }
    if (more) copy.finish(stage[turn ^ 1], scan);
    __syncwarp();  // the stage is free for the next stretch but one
  }
}
