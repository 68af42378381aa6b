// The gradients of the exact 2D recurrence: blocks walk up the strips of maps, from the last strip to
// the first one.
//
// What enters a tile, at its upper edge and in front of each of its rows, is left by a walk ahead
// (coupled_forward.cu with SAVES), where there is more than one tile. A block first walks down its
// tile: this gives the gradient of C, and the states q before each token and p before each segment of
// SEGMENT tokens go to memory of the block's own. Then it walks up, row by row from the last token to
// the first. Sums over channels leave a block as partial sums; those of parameters leave each strip as
// such.
//
// Given to the compiler, beside what coupled.cuh needs: SEGMENT.
#include "coupled.cuh"

// Partial sums: A (strips * images, 2, 2, E, N), weight (strips * images, 2, 2, E), D and bias the
// same of (E,) and (2, E); B and C (blocks of channels, K, tokens, 2, N).
struct Gradients {
  NUMBER *x, *delta;
  float *A, *weight, *B, *C, *D, *bias;
};

// A block's shared memory: B and C of a row, (columns, 2, STATES); sums over each warp's channels,
// (warps, columns, 2, STATES); each warp's tokens, and the gradient of q that leaves the row below.
struct Memory {
  unsigned* number;
  float *B, *C, *sums, *of_q;
  Token* tokens;

  DEVICE Memory(float* memory, const Maps& map) {
    int sides = map.strip * 2 * STATES, warp = threadIdx.x / 32;
    number = reinterpret_cast<unsigned*>(memory);
    B = memory + 4;
    C = B + sides;
    sums = C + sides;
    float* tokens_of_all = sums + WARPS * sides;
    tokens = reinterpret_cast<Token*>(tokens_of_all) + warp * map.strip * WARP_CHANNELS;
    of_q = tokens_of_all + (4 * WARPS * WARP_CHANNELS + warp * WARP_PATCH) * map.strip;
  }
};

// A warp's states within a tile, in global memory: q (rows, columns) and p (rows, segments).
struct History {
  float *q, *p;
  int columns, segments;

  DEVICE History(float* memory, const Maps& map)
      : columns(map.strip), segments((map.strip + SEGMENT - 1) / SEGMENT) {
    long long warp = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
    q = memory + warp * map.tile * (columns + segments) * WARP_PATCH;
    p = q + (long long)map.tile * columns * WARP_PATCH;
  }
  DEVICE float* q_at(int row, int column) const { return q + (row * columns + column) * WARP_PATCH; }
  DEVICE float* p_at(int row, int segment) const {
    return p + (row * segments + segment) * WARP_PATCH;
  }
};

// Of the parameters, what a thread has summed so far: of its patch, and of its own channels in front.
struct Sums {
  Tile A[4];
  Channels weight[4], bias[2], D;

  DEVICE void start() {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      clear(A[i]);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) weight[i][c] = 0.f;
    }
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) bias[0][c] = bias[1][c] = D[c] = 0.f;
  }

  DEVICE void leave(const Gradients& out, int number, const Rates& rates, const Place& place) {
    int channels = place.channels, own = place.channel + place.owned();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
        for (int n = 0; n < STATES_HELD; ++n) A[i][c][n] *= rates.weight[i][c];
      }
      long long part = (long long)number * 4 + i;
      store_tile(out.A + part * channels * place.states, A[i], place);
      sum_states(weight[i], place);
      place.store_owned(out.weight + part * channels + own, weight[i]);
    }
    if (HAS_BIAS) {
      place.store_owned(out.bias + 2LL * number * channels + own, bias[0]);
      place.store_owned(out.bias + (2LL * number + 1) * channels + own, bias[1]);
    }
    if (HAS_D) place.store_owned(out.D + (long long)number * channels + own, D);
  }
};

constexpr int SIDE_SUMS = 2 * STATES_HELD;

// Sum what belongs to both states of one token over the warp's channels; `to` is (2, STATES).
DEVICE void leave_sums(float (&sums)[SIDE_SUMS], float* to, const Place& place) {
  constexpr int LEFT = SIDE_SUMS > CHANNEL_LANES ? SIDE_SUMS / CHANNEL_LANES : 1;
  spread_sum<SIDE_SUMS, CHANNEL_LANES, STATE_LANES>(sums, place.lane);
  int first = owned_sum<SIDE_SUMS, CHANNEL_LANES, STATE_LANES>(place.lane);
#pragma unroll
  for (int i = 0; i < LEFT; ++i) {
    int which = first + i;
    to[which / STATES_HELD * STATES + place.state + which % STATES_HELD] = sums[i];
  }
}

// What a block works on: a strip, and channels of it.
struct Work {
  const Coupled& scan;
  const NUMBER* grad_y;
  const Gradients& out;
  const Maps& map;
  const Memory& memory;
  const History& history;
  Strip strip;
  Place place;
  int group, block;

  // Put a row into shared memory; the block has met when this returns.
  DEVICE void stage(int row) const {
    int columns = strip.columns;
    stage_tokens(memory.tokens, scan, grad_y, map, strip, row, 0, columns, group * WARP_CHANNELS);
    stage_sides(memory.B, scan.B, scan.B_token, map, strip, row, 0, columns, threadIdx.x, 32 * WARPS);
    stage_sides(memory.C, scan.C, scan.C_token, map, strip, row, 0, columns, threadIdx.x, 32 * WARPS);
    __syncthreads();
  }

  DEVICE float* sums_at(int column) const {
    return memory.sums + (threadIdx.x / 32 * map.strip + column) * 2 * STATES;
  }

  // Sum over the warps what they have left of a row.
  DEVICE void finish_sums(float* partial, int row) const {
    __syncthreads();
    int size = map.strip * 2 * STATES;
    float* to = partial + (block * map.tokens() + strip.first_token) * 2 * map.states;
    for (int i = threadIdx.x; i < strip.columns * 2 * STATES; i += 32 * WARPS) {
      int column = i / (2 * STATES), k = i / STATES % 2, state = i % STATES;
      float sum = 0.f;
#pragma unroll
      for (int warp = 0; warp < WARPS; ++warp) sum += memory.sums[warp * size + i];
      if (state < map.states) {
        to[(strip.token(row, column) * 2 + k) * map.states + state] = sum;
      }
    }
  }
};

// Walk down a tile: the gradient of C, and the states of the tile for the walk up.
DEVICE void walk_down(const Work& work, const Rates& rates, const Edges& edges, int tile, int begin,
                      int end) {
  const Strip& strip = work.strip;
  const Place& place = work.place;
  for (int column = 0; column < strip.columns; ++column) {
    Tile q;
    clear(q);
    if (tile > 0) {
      int at = strip.number * work.map.strip + column;
      load_patch(q, edges.q_at(work.map, tile, at, strip.image, work.group), place.lane);
    }
    store_patch(work.history.q_at(0, column), q, place.lane);
  }
  for (int row = begin; row < end; ++row) {
    work.stage(row);
    Tile p, next;
    clear(p);
    if (strip.number > 0) {
      const float* edge = edges.p_at(work.map, strip.number - 1, row, strip.image, work.group);
      load_patch(p, edge, place.lane);
    }
    load_patch(next, work.history.q_at(row - begin, 0), place.lane);
    for (int column = 0; column < strip.columns; ++column) {
      Tile q;
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
        for (int n = 0; n < STATES_HELD; ++n) q[c][n] = next[c][n];
      }
      if (column + 1 < strip.columns) {
        load_patch(next, work.history.q_at(row - begin, column + 1), place.lane);
      }
      if (column % SEGMENT == 0) {
        store_patch(work.history.p_at(row - begin, column / SEGMENT), p, place.lane);
      }
      Step now;
      now.read(work.memory.tokens + column * WARP_CHANNELS, place);
      advance(p, q, now, rates, work.memory.B + column * 2 * STATES, place);
      if (row + 1 < end) store_patch(work.history.q_at(row + 1 - begin, column), q, place.lane);
      float sums[SIDE_SUMS] = {};
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
        for (int n = 0; n < STATES_HELD; ++n) {
          sums[n] += now.of_y[c] * p[c][n];
          sums[STATES_HELD + n] += now.of_y[c] * q[c][n];
        }
      }
      leave_sums(sums, work.sums_at(column), place);
    }
    work.finish_sums(work.out.C, row);
  }
}

// The states before a segment's tokens, and what p of each takes from both.
struct Segment {
  Tile p[SEGMENT], q[SEGMENT], decays[SEGMENT][2];

  DEVICE void load(const History& history, int row, int segment, int columns, int lane) {
    load_patch(p[0], history.p_at(row, segment), lane);
#pragma unroll
    for (int t = 0; t < SEGMENT; ++t) {
      int column = segment * SEGMENT + t;
      if (column < columns) load_patch(q[t], history.q_at(row, column), lane);
    }
  }

  // The states p before all tokens but the first, as in advance().
  DEVICE void walk(const Work& work, const Rates& rates, int first) {
#pragma unroll
    for (int t = 0; t < SEGMENT; ++t) {
      int column = first + t;
      if (column >= work.strip.columns) continue;
      Step now;
      States B;
      now.read(work.memory.tokens + column * WARP_CHANNELS, work.place);
      read_side(B, work.memory.B + column * 2 * STATES, 0, work.place);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        float drive = now.dt[0][c] * now.x[c];
#pragma unroll
        for (int n = 0; n < STATES_HELD; ++n) {
          float of_p = rates.decay(0, now, c, n), of_q = rates.decay(1, now, c, n);
          decays[t][0][c][n] = of_p;
          decays[t][1][c][n] = of_q;
          if (t + 1 == SEGMENT) continue;
          p[t + 1 < SEGMENT ? t + 1 : 0][c][n] =
              rates.weight[0][c] * (of_p * p[t][c][n]) +
              (rates.weight[1][c] * (of_q * q[t][c][n]) + drive * B[n]);
        }
      }
    }
  }
};

// One token of the walk up. `of_p` and `of_q` are the gradients that reach its states from the tokens
// behind it, and then those that it hands on.
DEVICE void step_back(Tile& of_p, Tile& of_q, Sums& sums, const Segment& segment, int t, int column,
                      int row, const Work& work, const Rates& rates, const Channels& skip) {
  const Place& place = work.place;
  Step now;
  States B[2], C[2];
  now.read(work.memory.tokens + column * WARP_CHANNELS, place);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    read_side(B[k], work.memory.B + column * 2 * STATES, k, place);
    read_side(C[k], work.memory.C + column * 2 * STATES, k, place);
  }
  float of_B[SIDE_SUMS] = {};
  Channels of_dt[2], of_x;
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    float drive[2] = {now.dt[0][c] * now.x[c], now.dt[1][c] * now.x[c]};
    float of_power[4] = {}, of_drive[2] = {};
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      float of_state[2] = {of_p[c][n] + now.of_y[c] * C[0][n], of_q[c][n] + now.of_y[c] * C[1][n]};
      float through[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float decay = i < 2 ? segment.decays[t][i][c][n] : rates.decay(i, now, c, n);
        through[i] = of_state[i / 2] * decay;
        float shared = through[i] * (i % 2 ? segment.q[t][c][n] : segment.p[t][c][n]);
        sums.weight[i][c] += shared;
        sums.A[i][c][n] += now.dt[i / 2][c] * shared;
        of_power[i] += rates.A[i][c][n] * shared;
      }
      of_p[c][n] = rates.weight[0][c] * through[0] + rates.weight[2][c] * through[2];
      of_q[c][n] = rates.weight[1][c] * through[1] + rates.weight[3][c] * through[3];
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        of_drive[k] += of_state[k] * B[k][n];
        of_B[k * STATES_HELD + n] += of_state[k] * drive[k];
      }
    }
    of_x[c] = now.dt[0][c] * of_drive[0] + now.dt[1][c] * of_drive[1];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      float of_powers = rates.weight[2 * k][c] * of_power[2 * k] +
                        rates.weight[2 * k + 1][c] * of_power[2 * k + 1];
      of_dt[k][c] = LN2 * of_powers + now.x[c] * of_drive[k];
    }
  }
  leave_sums(of_B, work.sums_at(column), place);
  sum_states(of_x, place);
  long long token = work.strip.first_token + work.strip.token(row, column);
  long long at = token * place.channels + place.channel + place.owned();
#pragma unroll
  for (int c = 0; c < CHANNELS_OWNED; ++c) {
    if (HAS_D) of_x[c] += skip[c] * now.of_y[c];
    sums.D[c] += now.of_y[c] * now.x[c];
  }
  place.store_owned(work.out.x + at, of_x);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    sum_states(of_dt[k], place);
#pragma unroll
    for (int c = 0; c < CHANNELS_OWNED; ++c) {
      if (SOFTPLUS) of_dt[k][c] *= softplus_grad(now.dt[k][c]);
      sums.bias[k][c] += of_dt[k][c];
    }
    place.store_owned(work.out.delta + k * work.map.tokens() * place.channels + at, of_dt[k]);
  }
}

// Walk up a tile.
DEVICE void walk_up(Sums& sums, const Work& work, const Rates& rates, const Edges& back,
                    const Channels& skip, int begin, int end) {
  const Strip& strip = work.strip;
  const Place& place = work.place;
  int image = strip.image, group = work.group;
  for (int row = end - 1; row >= begin; --row) {
    work.stage(row);
    Tile of_p;
    clear(of_p);
    int turn = strip.rows - 1 - row, segments = (strip.columns + SEGMENT - 1) / SEGMENT;
    if (!strip.is_last()) {
      await_word(back.done_at(work.map, strip.number + 1, image, group), turn + 1);
      load_patch(of_p, back.p_at(work.map, strip.number + 1, turn, image, group), place.lane);
    }
    for (int number = segments - 1; number >= 0; --number) {
      Segment segment;
      segment.load(work.history, row - begin, number, strip.columns, place.lane);
      segment.walk(work, rates, number * SEGMENT);
#pragma unroll
      for (int t = SEGMENT - 1; t >= 0; --t) {
        int column = number * SEGMENT + t;
        if (column >= strip.columns) continue;
        Tile of_q;
        clear(of_q);
        float* kept = work.memory.of_q + column * WARP_PATCH;
        if (turn > 0) load_patch(of_q, kept, place.lane);
        step_back(of_p, of_q, sums, segment, t, column, row, work, rates, skip);
        store_patch(kept, of_q, place.lane);
      }
    }
    if (strip.number > 0) {
      store_patch(back.p_at(work.map, strip.number, turn, image, group), of_p, place.lane);
      __syncwarp();
      if (place.lane == 0) publish_word(back.done_at(work.map, strip.number, image, group), turn + 1);
    }
    work.finish_sums(work.out.B, row);
  }
}

// Grid: (any number of blocks). Blocks take the strips in order, the last strips of all images first:
// so what a block waits for is always under way. `taken` counts them; it has to be 0.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    coupled_backward(Coupled scan, const NUMBER* grad_y, Gradients out, Maps map, Edges edges,
                     Edges back, float* memory_of_blocks, unsigned* taken) {
  SHARED(float, shared);
  Memory memory(shared, map);
  History history(memory_of_blocks, map);
  int columns = map.channel_blocks(), units = map.strips * map.images() * columns;
  while (true) {
    __syncthreads();
    if (threadIdx.x == 0) *memory.number = take_number(taken);
    __syncthreads();
    int unit = *memory.number;
    if (unit >= units) return;
    int number = unit / columns, block = unit % columns, group = block * WARPS + threadIdx.x / 32;
    Strip strip(map, map.strips - 1 - number / map.images(), number % map.images());
    Place place(group * WARP_CHANNELS, map.channels, map.states);
    Rates rates(scan, place);
    Sums sums;
    sums.start();
    if (strip.there()) {
      Work work = {scan, grad_y, out, map, memory, history, strip, place, group, block};
      Channels skip;
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        int channel = place.channel_at(c);
        skip[c] = HAS_D && place.has_channel(channel) ? scan.D[place.channel + channel] : 0.f;
      }
      for (int tile = (strip.rows - 1) / map.tile; tile >= 0; --tile) {
        int begin = tile * map.tile, end = min(strip.rows, begin + map.tile);
        walk_down(work, rates, edges, tile, begin, end);
        walk_up(sums, work, rates, back, skip, begin, end);
      }
    }
    sums.leave(out, number, rates, place);
  }
}
