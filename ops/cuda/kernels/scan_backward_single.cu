// Backward pass of the selective scan for single states.
//
// A block has at most WARPS warps. It owns a lane, or a segment of one, of at most STEPS tokens for each
// warp, and each of its warps owns a piece of that: a thread has all it needs of its channels' STEPS
// tokens in registers. A warp finds what its piece does to a state that crosses it, and to a gradient on its way back; the warps tell
// each other; then each walks through its piece there and back. Everything is read from memory once,
// while the segment before is computed.
//
// Given to the compiler, beside what scan.cuh needs: GRADIENT, the type of output gradients; SHARED_Y,
// whether one of them serves all directions; STEPS; MAP_BYTES and GRADIENT_BYTES, which are
// copied at once of maps and of output gradients.
#include "scan.cuh"
#include "stage.cuh"

static_assert(STATES == 1 && STEPS <= 32, "threads hold one state, and a token of B and C");
static_assert((STEPS & (STEPS - 1)) == 0, "threads exchange halves");

// What a warp reads of a piece; of what it never reads, a single token.
struct Stage {
  Staged<NUMBER, STEPS, WARP_CHANNELS> x, delta;
  Staged<NUMBER, HAS_Z ? STEPS : 1, WARP_CHANNELS> z;
  Staged<GRADIENT, STEPS, WARP_CHANNELS> grad_y;
};

typedef float Steps[STEPS][CHANNELS_HELD];

// A warp's piece of the segment `unit`. Its first token counts from that of the lane's direction.
struct Piece {
  int unit, steps;
  Lane lane;
  long long own, token;

  DEVICE void find(const Map& map, int warp) {
    lane = find_lane(map, unit);
    steps = max(0, min(STEPS, lane.length - warp * STEPS));
    own = lane.entry + (long long)(warp * STEPS) * lane.step;
    token = lane.k * map.tokens() + own;
  }
};

// What is under way in a thread's registers while the piece before is computed: what enters the
// segment from both sides, and one token's B and C.
struct Ahead {
  Tile start, incoming;
  SIDE B, C;

  DEVICE void load(const Scan& scan, const float* gradients, const Piece& at, const Place& place) {
    clear(start);
    clear(incoming);
    load_edge(start, scan.start, at.unit, place);
    load_edge(incoming, gradients, at.unit, place);
    bool there = place.lane < at.steps;
    long long token = at.token + (long long)place.lane * at.lane.step;
    if (B_TOKEN) B = there ? scan.B[token * scan.B_token] : from_float<SIDE>(0.f);
    if (C_TOKEN) C = there ? scan.C[token * scan.C_token] : from_float<SIDE>(0.f);
  }
};

DEVICE void copy_piece(Stage& stage, const Scan& scan, const GRADIENT* grad_y, const Map& map,
                       const Piece& at, int channel) {
  int channels = map.channels - channel, step = at.lane.step * map.channels;
  long long first = at.token * map.channels + channel;
  copy_tokens<MAP_BYTES>(stage.x, scan.x + first, step, at.steps, channels);
  copy_tokens<MAP_BYTES>(stage.delta, scan.delta + first, step, at.steps, channels);
  const GRADIENT* from = grad_y + (SHARED_Y ? at.own : at.token) * map.channels + channel;
  copy_tokens<GRADIENT_BYTES>(stage.grad_y, from, step, at.steps, channels);
  if (!HAS_Z) return;
  const NUMBER* z = scan.z + at.token * scan.z_token + channel;
  copy_tokens<MAP_BYTES>(stage.z, z, at.lane.step * scan.z_token, at.steps, channels);
}

// What a piece does to a state that crosses it, and to a gradient that crosses it on the way back:
// either decays, and has something added.
struct Crossing {
  Channels state, grad, decay;
};

// Those of all channels and a block's warps.
struct Crossings {
  float at[3][WARPS][WARP_CHANNELS];

  DEVICE void leave(const Crossing& of, int warp, int channel) {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      at[0][warp][channel + c] = of.state[c];
      at[1][warp][channel + c] = of.grad[c];
      at[2][warp][channel + c] = of.decay[c];
    }
  }

  // From what enters the segment to what enters a warp's piece.
  DEVICE void cross(Tile& state, Tile& grad, int warp, int warps, int channel) const {
#pragma unroll
    for (int i = 0; i < WARPS - 1; ++i) {
      if (i < warp) cross(state, 0, i, channel);
    }
#pragma unroll
    for (int i = WARPS - 1; i > 0; --i) {
      if (i > warp && i < warps) cross(grad, 1, i, channel);
    }
  }

  DEVICE void cross(Tile& what, int which, int warp, int channel) const {
    float added[CHANNELS_HELD], decay[CHANNELS_HELD];
    read_numbers(added, &at[which][warp][channel]);
    read_numbers(decay, &at[2][warp][channel]);
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) what[c][0] = decay[c] * what[c][0] + added[c];
  }
};

// What is left of a thread's sums over everything that it walks over.
struct Sums {
  Channels A, D, bias;
};

// Sum a number a step over the warp's channels, and store it by token.
DEVICE void store_side(float* to, float (&of_steps)[STEPS], const Piece& at, const Place& place) {
  spread_sum<STEPS, 32, 1>(of_steps, place.lane);
  int t = owned_sum<STEPS, 32, 1>(place.lane);
  if (place.lane < STEPS && t < at.steps) to[at.token + (long long)t * at.lane.step] = of_steps[0];
}

// A thread's steps. `slope` is the gradient of the gate, but for the ungated output.
struct Walk {
  Numbers<NUMBER, CHANNELS_HELD> x[STEPS];
  Steps dt, decay, state, dy, slope;
  float own_B, own_C;  // of the token whose number is the thread's

  DEVICE float B(int t) const { return B_TOKEN ? from_lane(own_B, t) : 1.f; }
  DEVICE float C(int t) const { return C_TOKEN ? from_lane(own_C, t) : 1.f; }

  // What a step adds to the state, found twice: registers are scarce.
  DEVICE float added(float x, float B, int t, int c) const {
    return times_side<B_TOKEN>(dt[t][c] * x, B);
  }

  // Read the steps, and find what they do together. WHOLE says that there are as many as can be.
  template <bool WHOLE>
  DEVICE void read(Crossing& crossing, const Stage& stage, const Ahead& sides, int steps,
                   const Place& place, const Parameters& given) {
    int column = place.in_warp();
    own_B = B_TOKEN ? to_float(sides.B) : 1.f;
    own_C = C_TOKEN ? to_float(sides.C) : 1.f;
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      crossing.state[c] = crossing.grad[c] = 0.f;
      crossing.decay[c] = 1.f;
    }
#pragma unroll
    for (int t = 0; t < STEPS; ++t) {
      Step now;
      float B_t = B(t), C_t = C(t);
      if (!WHOLE && t >= steps) {
        skip(t);
        continue;
      }
      x[t].load(&stage.x.at[t][column]);
      x[t].get(now.x);
      read_channels(now.dt, &stage.delta.at[t][column], place);
      finish_step(now, given.bias);
      read_channels(dy[t], &stage.grad_y.at[t][column], place);
      if (HAS_Z) open_gate(&stage.z.at[HAS_Z ? t : 0][column], t, place);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        dt[t][c] = now.dt[c];
        decay[t][c] = exp2_approx(dt[t][c] * given.A_log2[c][0]);
        crossing.state[c] = decay[t][c] * crossing.state[c] + added(now.x[c], B_t, t, c);
        crossing.decay[c] *= decay[t][c];
        crossing.grad[c] += crossing.decay[c] * times_side<C_TOKEN>(dy[t][c], C_t);
      }
    }
  }

  // Make a step one that changes nothing.
  DEVICE void skip(int t) {
    x[t].clear();
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      dt[t][c] = dy[t][c] = slope[t][c] = 0.f;
      decay[t][c] = 1.f;
    }
  }

  // From the gradient of the gated output to that of the ungated one.
  DEVICE void open_gate(const NUMBER* from, int t, const Place& place) {
    Channels z;
    read_channels(z, from, place);
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      float open = sigmoid(z[c]), opened = dy[t][c] * open;
      dy[t][c] = opened * z[c];
      slope[t][c] = opened + dy[t][c] * (1 - open);
    }
  }

  // Walk ahead from the state before the first step, to those after every step; store the gradients
  // of the gate, whose tokens are `distance` apart.
  template <bool WHOLE>
  DEVICE void ahead(const Tile& start, NUMBER* grad_z, int distance, int steps, const Place& place,
                    const Channels& skip) {
#pragma unroll
    for (int t = 0; t < STEPS; ++t) {
      Channels inputs, grad;
      float B_t = B(t), C_t = C(t);
      x[t].get(inputs);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        float before = t > 0 ? state[t > 0 ? t - 1 : 0][c] : start[c][0];
        state[t][c] = decay[t][c] * before + added(inputs[c], B_t, t, c);
        if (!HAS_Z) continue;
        float y = times_side<C_TOKEN>(state[t][c], C_t);
        if (HAS_D) y += skip[c] * inputs[c];
        grad[c] = slope[t][c] * y;
      }
      if (!HAS_Z) continue;
      place.store(grad_z, grad, WHOLE || t < steps);
      move_on(grad_z, distance);
    }
  }

  // Walk back, from the gradient of the state after the last step.
  template <bool WHOLE>
  DEVICE void back(Tile& grad, const Tile& start, float (&grad_B)[STEPS], float (&grad_C)[STEPS],
                   NUMBER* to_x, NUMBER* to_delta, int distance, int steps, const Place& place,
                   const Parameters& given, Sums& sums) const {
    to_x += (STEPS - 1) * distance;
    to_delta += (STEPS - 1) * distance;
#pragma unroll
    for (int t = STEPS - 1; t >= 0; --t) {
      Channels inputs, grad_x, grad_delta;
      x[t].get(inputs);
      bool there = WHOLE || t < steps;
      float B_t = B(t), C_t = C(t);
      grad_B[t] = grad_C[t] = 0.f;
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        float before = t > 0 ? state[t > 0 ? t - 1 : 0][c] : start[c][0];
        grad[c][0] += times_side<C_TOKEN>(dy[t][c], C_t);
        if (C_TOKEN) grad_C[t] += dy[t][c] * state[t][c];
        if (B_TOKEN) grad_B[t] += grad[c][0] * (dt[t][c] * inputs[c]);
        float du = times_side<B_TOKEN>(grad[c][0], B_t);
        grad[c][0] *= decay[t][c];
        float exponent = grad[c][0] * before;
        sums.A[c] += exponent * dt[t][c];
        grad_x[c] = du * dt[t][c];
        grad_delta[c] = du * inputs[c] + exponent * (given.A_log2[c][0] * LN2);
        if (HAS_D) {
          grad_x[c] += given.skip[c] * dy[t][c];
          sums.D[c] += dy[t][c] * inputs[c];
        }
        if (SOFTPLUS != SOFTPLUS_NONE) grad_delta[c] *= softplus_grad(dt[t][c]);
        if (HAS_BIAS && there) sums.bias[c] += grad_delta[c];
      }
      place.store(to_x, grad_x, there);
      place.store(to_delta, grad_delta, there);
      move_on(to_x, -distance);
      move_on(to_delta, -distance);
    }
  }

  // Both ways, from what enters the piece.
  template <bool WHOLE>
  DEVICE void both_ways(Ahead& entering, const Gradients& grads, const Map& map, const Piece& at,
                        const Place& place, const Parameters& given, Sums& sums) {
    int distance = at.lane.step * map.channels;
    long long first = at.token * map.channels + place.channel;
    ahead<WHOLE>(entering.start, grads.z + first, distance, at.steps, place, given.skip);
    float grad_B[STEPS], grad_C[STEPS];
    back<WHOLE>(entering.incoming, entering.start, grad_B, grad_C, grads.x + first,
                grads.delta + first, distance, at.steps, place, given, sums);
    long long group = (long long)blockIdx.y * map.directions * map.tokens();
    if (B_TOKEN) store_side(grads.B + group, grad_B, at, place);
    if (C_TOKEN) store_side(grads.C + group, grad_C, at, place);
  }
};

// Add up a number a channel over the block's warps in order, and store it.
DEVICE void store_sum(float* to, float (&shared)[WARPS][WARP_CHANNELS], const Channels& sum,
                      int warp, int warps, const Place& place) {
  __syncthreads();
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) shared[warp][place.in_warp() + c] = sum[c];
  __syncthreads();
  if (warp > 0) return;
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    float total = 0.f;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) {
      if (i < warps) total += shared[i][place.in_warp() + c];
    }
    if (place.has_channel(c)) to[c] = total;
  }
}

// Grid: (any number of blocks, which share out the segments; groups of WARP_CHANNELS channels). Shared
// memory: two stages for each warp, then two of Crossings.
//
// Shapes as in scan_backward.cu, but there is no `carried`; segments, or lanes, are of at most STEPS
// tokens for each warp.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    scan_backward_single(Scan scan, const GRADIENT* grad_y, const float* incoming,
                         Gradients grads, Map map) {
  SHARED(Stage, stages);
  Crossings* crossings = reinterpret_cast<Crossings*>(stages + 2 * (blockDim.x / 32));
  int warp = threadIdx.x / 32, warps = blockDim.x / 32, channel = blockIdx.y * WARP_CHANNELS;
  Stage* stage = stages + 2 * warp;
  Place place(channel, map.channels, 1);
  Parameters given(scan, place);
  Sums sums = {};
  int units = 0;
  for (int k = 0; k < map.directions; ++k) units += map.lanes(k);

  Piece next;
  Ahead ahead;
  next.unit = blockIdx.x;
  if (next.unit < units) {
    next.find(map, warp);
    copy_piece(stage[0], scan, grad_y, map, next, channel);
    ahead.load(scan, incoming, next, place);
  }
  commit_copies();
  for (int turn = 0; next.unit < units; turn ^= 1) {
    Piece now = next;
    Ahead here = ahead;
    next.unit += gridDim.x;
    if (next.unit < units) {
      next.find(map, warp);
      copy_piece(stage[turn ^ 1], scan, grad_y, map, next, channel);
      ahead.load(scan, incoming, next, place);
    }
    commit_copies();
    await_copies<1>();
    __syncwarp();
    Walk walk;
    Crossing crossing;
    bool whole = now.steps == STEPS;
    if (whole) {
      walk.read<true>(crossing, stage[turn], here, now.steps, place, given);
    } else {
      walk.read<false>(crossing, stage[turn], here, now.steps, place, given);
    }
    crossings[turn].leave(crossing, warp, place.in_warp());
    __syncthreads();  // the stage is free for the next piece but one, too
    crossings[turn].cross(here.start, here.incoming, warp, warps, place.in_warp());
    if (whole) {
      walk.both_ways<true>(here, grads, map, now, place, given, sums);
    } else {
      walk.both_ways<false>(here, grads, map, now, place, given, sums);
    }
  }
  await_copies<0>();
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    // The derivative of A by its logarithm is A.
    sums.A[c] *= LOG_A ? given.A_log2[c][0] * LN2 : 1.f;
  }
  long long row = (long long)blockIdx.x * map.channels + place.channel;
  auto& shared = crossings[0].at[0];
  store_sum(grads.A + row, shared, sums.A, warp, warps, place);
  if (HAS_D) store_sum(grads.D + row, shared, sums.D, warp, warps, place);
  if (HAS_BIAS) store_sum(grads.bias + row, shared, sums.bias, warp, warps, place);
}
