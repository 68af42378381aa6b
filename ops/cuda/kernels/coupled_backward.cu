// The gradients of the exact 2D recurrence: blocks walk up the strips of maps, from the last strip to
// the first one.
//
// What enters a tile, at its upper edge and in front of each of its rows, is left by a walk ahead
// (coupled_forward.cu with SAVES), where there is more than one tile. A block first walks down its
// tile: this gives the gradient of C, and both states before each token go to memory of the block's
// own. Then it walks up, row by row from the last token to the first. What the states of all tokens
// take to write and to read is most of what the kernel moves, so that they are bfloat16 where maps
// are. What goes from row to row, the state q on the way down and its gradient on the way up, is in
// shared memory. Sums over channels leave a block as partial sums; those of parameters leave each
// strip as such.
//
// Given to the compiler, beside what coupled.cuh needs: COLUMNS, the most that a strip has.
#include "coupled.cuh"

// The gradient of y, (K, tokens, E), or (tokens, E) where one serves all corners: `images` is how many
// images it has.
struct Upstream {
  const NUMBER* y;
  int images;

  // Such that `strip`'s tokens lie where they do in a map of all images.
  DEVICE const NUMBER* of(const Strip& strip, const Maps& map) const {
    long long before = strip.image - strip.image % images;
    return y - before * map.height * map.width * map.channels;
  }
};

// Partial sums: A (strips * images, 2, 2, E, N), weight (strips * images, 2, 2, E), D and bias the
// same of (E,) and (2, E); B and C (blocks of channels, K, tokens, 2, N).
struct Gradients {
  NUMBER *x, *delta;
  float *A, *weight, *B, *C, *D, *bias;
};

constexpr int BOTH_PATCHES = 2 * WARP_PATCH;

// What states are kept as. Not as float16, because states may be far larger than maps.
template <typename T>
struct KeptAs {
  typedef float type;
};
template <>
struct KeptAs<bfloat16> {
  typedef bfloat16 type;
};
typedef KeptAs<NUMBER>::type KEPT;

// A block's shared memory: B and C of a row, (columns, 2, 2, STATES); each warp's tokens, what goes from
// row to row, and the states before the next token; sums over each warp's channels, (warps, columns, 2,
// STATES).
struct Memory {
  unsigned* number;
  float *sides, *sums, *between_rows;
  KEPT* ahead;
  Token* tokens;

  DEVICE Memory(float* memory, const Maps& map) {
    int warp = threadIdx.x / 32;
    number = reinterpret_cast<unsigned*>(memory);
    sides = memory + 4;
    float* of_warps = sides + map.strip * BOTH_SIDES;
    int of_warp = map.strip * (4 * WARP_CHANNELS + WARP_PATCH);
    of_warp += BOTH_PATCHES * sizeof(KEPT) / sizeof(float);
    sums = of_warps + WARPS * of_warp;
    tokens = reinterpret_cast<Token*>(of_warps + warp * of_warp);
    between_rows = reinterpret_cast<float*>(tokens + map.strip * WARP_CHANNELS);
    ahead = reinterpret_cast<KEPT*>(between_rows + map.strip * WARP_PATCH);
  }
};

// A warp's memory outside of the multiprocessor: both states before each token of a tile, (rows,
// columns) of p and then q; and `leaving`, (columns,), where the gradient of q that leaves the tile
// below waits while the block walks down.
struct History {
  KEPT* first;
  float* leaving;
  int columns;

  DEVICE History(KEPT* kept, float* leaving_tiles, const Maps& map) : columns(map.strip) {
    long long warp = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
    first = kept + warp * map.tile * columns * BOTH_PATCHES;
    leaving = leaving_tiles + warp * columns * WARP_PATCH;
  }
  DEVICE KEPT* at(int row, int column) const {
    return first + (row * columns + column) * BOTH_PATCHES;
  }
};

// Of the parameters, what a thread has summed so far: of its patch, and of its own channels in front.
struct Sums {
  Tile A[4];
  Channels weight[4], bias[2], D;

  DEVICE Sums() {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      clear(A[i]);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) weight[i][c] = 0.f;
    }
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) bias[0][c] = bias[1][c] = D[c] = 0.f;
  }

  // Behind strip `number`. If FOLDED, weights are in what has been summed.
  template <bool FOLDED>
  DEVICE void leave(const Gradients& out, int number, const Coupled& scan, const Place& place) {
    int channels = place.channels, own = place.channel + place.owned();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        int channel = place.channel_at(c);
        const float* from = scan.weight + i * channels + place.channel + channel;
        float given = place.has_channel(channel) ? *from : 1.f;
        if (FOLDED) {
          weight[i][c] *= reciprocal(given);
        } else {
#pragma unroll
          for (int n = 0; n < STATES_HELD; ++n) A[i][c][n] *= given;
        }
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

  DEVICE const Token* tokens_at(int column) const {
    return memory.tokens + column * WARP_CHANNELS + place.in_warp();
  }
  DEVICE const float* sides_at(int column) const {
    return memory.sides + column * BOTH_SIDES + place.state;
  }
  DEVICE float* sums_at(int column) const {
    return memory.sums + (threadIdx.x / 32 * map.strip + column) * SIDE;
  }

  // Sum over the warps what they have left of a row.
  DEVICE void finish_sums(float* partial, int row) const {
    __syncthreads();
    int size = map.strip * SIDE;
    float* to = partial + (block * map.tokens() + strip.first_token) * 2 * map.states;
    for (int i = threadIdx.x; i < strip.columns * SIDE; i += 32 * WARPS) {
      int column = i / SIDE, k = i / STATES % 2, state = i % STATES;
      float sum = 0.f;
#pragma unroll
      for (int warp = 0; warp < WARPS; ++warp) sum += memory.sums[warp * size + i];
      if (state < map.states) {
        to[(strip.token(row, column) * 2 + k) * map.states + state] = sum;
      }
    }
  }
};

// A block's copying of rows: all of the next row is under way in registers while the sums of the
// present one are finished.
struct Stage {
  static constexpr int TOKENS_AT_ONCE = TokenStage<1, true>::AT_ONCE;
  static constexpr int SIDES_AT_ONCE = SideStage<1, 32 * WARPS>::AT_ONCE;
  const Work& work;
  TokenStage<SWEEPS_FOR<COLUMNS, TOKENS_AT_ONCE>, true> tokens;
  SideStage<SWEEPS_FOR<COLUMNS, SIDES_AT_ONCE>, 32 * WARPS> sides;

  DEVICE Stage(const Work& work)
      : work(work),
        tokens(work.scan, work.grad_y, work.map, work.strip, work.group * WARP_CHANNELS),
        sides(work.scan, work.map, work.strip, threadIdx.x) {}

  DEVICE void begin(int row) {
    const Strip& strip = work.strip;
    int token = strip.token(row, 0);
    tokens.begin(token, strip.column_step, strip.columns);
    sides.begin(token, strip.column_step, strip.columns);
  }

  // The block has met when this returns.
  DEVICE void finish() const {
    tokens.finish(work.memory.tokens, work.strip.columns);
    sides.finish(work.memory.sides, work.strip.columns);
    __syncthreads();
  }
};

// What a row takes of p from the strip in front. The load is under way while the sums of the row above
// are finished.
DEVICE void enter_row(Tile& p, const Work& work, const Edges& edges, int row) {
  const Strip& strip = work.strip;
  clear(p);
  if (strip.number > 0) {
    load_patch(p, edges.p_at(work.map, strip, strip.number - 1, row, work.group), work.place.lane);
  }
}

// Walk down a tile: the gradient of C, and the states of the tile for the walk up.
template <bool FOLDED>
DEVICE void walk_down(const Work& work, const Rates<FOLDED>& rates, const Edges& edges, int tile,
                      int begin, int end) {
  const Strip& strip = work.strip;
  const Place& place = work.place;
  Stage stage(work);
  stage.begin(begin);
  for (int column = 0; column < strip.columns; ++column) {
    Tile q;
    clear(q);
    if (tile > 0) {
      load_patch(q, edges.q_at(work.map, strip, tile, column, work.group), place.lane);
    }
    store_patch(work.memory.between_rows + column * WARP_PATCH, q, place.lane);
  }
  Tile p;
  enter_row(p, work, edges, begin);
  for (int row = begin; row < end; ++row) {
    stage.finish();
    KEPT* before = work.history.at(row - begin, 0);
    float* between = work.memory.between_rows;
    const Token* tokens = work.tokens_at(0);
    const float* sides = work.sides_at(0);
    float* sums_at = work.sums_at(0);
#pragma unroll 2
    for (int column = 0; column < strip.columns; ++column) {
      Tile q;
      load_patch(q, between, place.lane);
      store_patch(before, p, place.lane);
      store_patch(before + WARP_PATCH, q, place.lane);
      Step now;
      now.read(tokens, place);
      advance(p, q, now, rates, sides);
      store_patch(between, q, place.lane);
      float sums[SIDE_SUMS];
#pragma unroll
      for (int n = 0; n < STATES_HELD; ++n) {
        sums[n] = now.of_y[0] * p[0][n];
        sums[STATES_HELD + n] = now.of_y[0] * q[0][n];
#pragma unroll
        for (int c = 1; c < CHANNELS_HELD; ++c) {
          sums[n] += now.of_y[c] * p[c][n];
          sums[STATES_HELD + n] += now.of_y[c] * q[c][n];
        }
      }
      leave_sums(sums, sums_at, place);
      tokens += WARP_CHANNELS;
      sides += BOTH_SIDES;
      before += BOTH_PATCHES;
      between += WARP_PATCH;
      sums_at += SIDE;
    }
    if (row + 1 < end) {
      stage.begin(row + 1);
      enter_row(p, work, edges, row + 1);
    }
    work.finish_sums(work.out.C, row);
  }
}

// Begin to copy both states before a token to shared memory.
DEVICE void begin_states(KEPT* to, const KEPT* from, int lane) {
  constexpr int AT_ONCE = PART<KEPT>;
#pragma unroll
  for (int i = 0; i < 2 * PATCH / AT_ONCE; ++i) {
    int at = (i * 32 + lane) * AT_ONCE;
    copy_async<AT_ONCE * sizeof(KEPT)>(to + at, from + at, true, true);
  }
  commit_copies();
}

// Where the gradients of x and of both time steps go: those of the thread's own channels, from the
// image's first token on.
struct Outlets {
  NUMBER *x, *first, *second;

  DEVICE Outlets(const Work& work) {
    const Place& place = work.place;
    x = work.out.x + work.strip.first_token * place.channels + place.channel + place.owned();
    first = work.out.delta + (x - work.out.x);
    second = first + work.map.tokens() * place.channels;
  }
};

// One token of the walk up, whose part of the outlets is at `at`. `of_p` and `of_q` are the gradients
// that reach its states from the tokens behind it, and then those that it hands on.
template <bool FOLDED>
DEVICE void step_back(Tile& of_p, Tile& of_q, Sums& sums, const Tile& p, const Tile& q,
                      const Token* token, const float* sides, float* sums_of_B,
                      const Outlets& outlets, int at, const Rates<FOLDED>& rates,
                      const Channels& skip, const Place& place) {
  Step now;
  States B[2], C[2];
  now.read(token, place);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    read_numbers(B[k], sides + k * STATES);
    read_numbers(C[k], sides + SIDE + k * STATES);
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
        through[i] = of_state[i / 2] * rates.decay(i, now, c, n);
        float shared = through[i] * (i % 2 ? q[c][n] : p[c][n]);
        sums.weight[i][c] += shared;
        sums.A[i][c][n] += now.dt[i / 2][c] * shared;
        of_power[i] += rates.A[i][c][n] * shared;
      }
      of_p[c][n] = rates.weigh(0, c, through[0]) + rates.weigh(2, c, through[2]);
      of_q[c][n] = rates.weigh(1, c, through[1]) + rates.weigh(3, c, through[3]);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        of_drive[k] += of_state[k] * B[k][n];
        of_B[k * STATES_HELD + n] += of_state[k] * drive[k];
      }
    }
    of_x[c] = now.dt[0][c] * of_drive[0] + now.dt[1][c] * of_drive[1];
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      float of_powers = rates.weigh(2 * k, c, of_power[2 * k]) +
                        rates.weigh(2 * k + 1, c, of_power[2 * k + 1]);
      of_dt[k][c] = LN2 * of_powers + now.x[c] * of_drive[k];
    }
  }
  leave_sums(of_B, sums_of_B, place);
  sum_states(of_x, place);
#pragma unroll
  for (int c = 0; c < CHANNELS_OWNED; ++c) {
    if (HAS_D) of_x[c] += skip[c] * now.of_y[c];
    sums.D[c] += now.of_y[c] * now.x[c];
  }
  place.store_owned(outlets.x + at, of_x);
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    sum_states(of_dt[k], place);
#pragma unroll
    for (int c = 0; c < CHANNELS_OWNED; ++c) {
      if (SOFTPLUS) of_dt[k][c] *= softplus_grad(now.dt[k][c]);
      sums.bias[k][c] += of_dt[k][c];
    }
    place.store_owned((k ? outlets.second : outlets.first) + at, of_dt[k]);
  }
}

// What a row takes of the gradient of p from the strip behind, as soon as that has it.
DEVICE void enter_row_back(Tile& of_p, const Work& work, const Edges& back, int row) {
  const Strip& strip = work.strip;
  int turn = strip.rows - 1 - row, behind = strip.number + 1;
  clear(of_p);
  if (!strip.is_last()) {
    await_word(back.done_at(work.map, strip, behind, work.group), turn + 1);
    load_patch(of_p, back.p_at(work.map, strip, behind, turn, work.group), work.place.lane);
  }
}

// Walk up a tile.
template <bool FOLDED>
DEVICE void walk_up(Sums& sums, const Work& work, const Rates<FOLDED>& rates, const Edges& back,
                    const Channels& skip, int begin, int end) {
  const Strip& strip = work.strip;
  const Place& place = work.place;
  int group = work.group, last = strip.columns - 1;
  KEPT* ahead = work.memory.ahead;
  Outlets outlets(work);
  Stage stage(work);
  stage.begin(end - 1);
  const KEPT* before = work.history.at(end - 1 - begin, last);
  begin_states(ahead, before, place.lane);
  Tile of_p;
  enter_row_back(of_p, work, back, end - 1);
  for (int row = end - 1; row >= begin; --row) {
    stage.finish();
    int turn = strip.rows - 1 - row;
    const Token* token = work.tokens_at(last);
    const float* sides = work.sides_at(last);
    float* sums_of_B = work.sums_at(last);
    float* kept = work.memory.between_rows + last * WARP_PATCH;
    int step = strip.column_step * place.channels, at = strip.token(row, last) * place.channels;
    for (int column = last; column >= 0; --column) {
      Tile p, q, of_q;
      await_copies<0>();
      load_patch(p, ahead, place.lane);
      load_patch(q, ahead + WARP_PATCH, place.lane);
      __syncwarp();
      if (column > 0) {
        before -= BOTH_PATCHES;
        begin_states(ahead, before, place.lane);
      } else if (row > begin) {
        before = work.history.at(row - 1 - begin, last);
        begin_states(ahead, before, place.lane);
      }
      load_patch(of_q, kept, place.lane);
      step_back(of_p, of_q, sums, p, q, token, sides, sums_of_B, outlets, at, rates, skip, place);
      store_patch(kept, of_q, place.lane);
      token -= WARP_CHANNELS;
      sides -= BOTH_SIDES;
      sums_of_B -= SIDE;
      kept -= WARP_PATCH;
      at -= step;
    }
    if (strip.number > 0) {
      store_patch(back.p_at(work.map, strip, strip.number, turn, group), of_p, place.lane);
      __syncwarp();
      if (place.lane == 0) publish_word(back.done_at(work.map, strip, strip.number, group), turn + 1);
    }
    if (row > begin) {
      stage.begin(row - 1);
      enter_row_back(of_p, work, back, row - 1);
    }
    work.finish_sums(work.out.B, row);
  }
}

// Copy what belongs to the columns of a strip.
DEVICE void copy_patches(float* to, const float* from, int columns, int lane) {
  for (int column = 0; column < columns; ++column) {
    Tile patch;
    load_patch(patch, from + column * WARP_PATCH, lane);
    store_patch(to + column * WARP_PATCH, patch, lane);
  }
}

DEVICE void clear_patches(float* to, int columns, int lane) {
  Tile nothing;
  clear(nothing);
  for (int column = 0; column < columns; ++column) {
    store_patch(to + column * WARP_PATCH, nothing, lane);
  }
}

// All of a strip.
template <bool FOLDED>
DEVICE void walk(const Work& work, const Edges& edges, const Edges& back, int number) {
  const Place& place = work.place;
  const Strip& strip = work.strip;
  int tile_rows = work.map.tile;
  Sums sums;
  if (strip.there()) {
    Rates<FOLDED> rates(work.scan, place);
    Channels skip;
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      int channel = place.channel_at(c);
      skip[c] = HAS_D && place.has_channel(channel) ? work.scan.D[place.channel + channel] : 0.f;
    }
    float *between = work.memory.between_rows, *leaving = work.history.leaving;
    for (int tile = (strip.rows - 1) / tile_rows; tile >= 0; --tile) {
      int begin = tile * tile_rows, end = min(strip.rows, begin + tile_rows);
      bool below = end < strip.rows;
      if (below) copy_patches(leaving, between, strip.columns, place.lane);
      walk_down(work, rates, edges, tile, begin, end);
      if (below) {
        copy_patches(between, leaving, strip.columns, place.lane);
      } else {
        clear_patches(between, strip.columns, place.lane);
      }
      walk_up(sums, work, rates, back, skip, begin, end);
    }
  }
  sums.leave<FOLDED>(work.out, number, work.scan, place);
}

// Grid: (any number of blocks). Blocks take the strips in order, the last strips of all images first:
// so what a block waits for is always under way. `taken` counts them; it has to be 0.
extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    coupled_backward(Coupled scan, Upstream upstream, Gradients out, Maps map, Edges edges,
                     Edges back, KEPT* kept, float* leaving, unsigned* taken) {
  SHARED(float, shared);
  Memory memory(shared, map);
  History history(kept, leaving, map);
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
    Work work = {scan, upstream.of(strip, map), out, map, memory, history, strip, place, group, block};
    if (weights_fold(scan, place)) {
      walk<true>(work, edges, back, number);
    } else {
      walk<false>(work, edges, back, number);
    }
  }
}
