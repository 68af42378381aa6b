// What both passes of the exact 2D recurrence share: arguments, geometry, and a step ahead.
//
// A corner walks over its map row by row, where a row is a lane of its first direction. The state p
// moves along a row, the state q from row to row. A map is cut into strips of neighbouring columns.
// A warp walks down a strip with p in registers; the strips work side by side, each some rows behind
// the one that it takes p from.
//
// Given to the compiler, beside what tile.cuh needs: NUMBER, the type of maps, of B and of C; SIDES,
// numbers of B and C that are loaded at once; HAS_D; HAS_BIAS; SOFTPLUS; WARPS of a block; BLOCKS of
// a multiprocessor.
#pragma once

#include "tile.cuh"

// Shapes: x (K, tokens, E); delta (2, K, tokens, E); bias (2, E); A (2, 2, E, N); weight (2, 2, E);
// D (E,); B and C (K, tokens, 2, N), whose tokens are `*_token` apart.
struct Coupled {
  const NUMBER *x, *delta;
  const float *bias, *A, *weight, *D;
  const NUMBER *B, *C;
  int B_token, C_token;
};

// The maps of K corners. Bit k of each mask belongs to corner k: whether its first and its second
// direction walk backwards, and whether the first one is along H. `strips` is the most that a corner
// has; a strip has `strip` columns, a tile `tile` rows.
struct Maps {
  int batch, height, width, channels, states, corners;
  unsigned reverse_first, reverse_second, along_h;
  int strip, strips, tile;

  DEVICE int images() const { return corners * batch; }
  DEVICE int channel_blocks() const {
    return (channels + WARPS * WARP_CHANNELS - 1) / (WARPS * WARP_CHANNELS);
  }
  DEVICE int groups() const { return channel_blocks() * WARPS; }
  DEVICE long long tokens() const { return (long long)images() * height * width; }
};

// A strip of one corner's map of one image. Tokens count from the image's own first one.
struct Strip {
  int number, image, strips, rows, columns, entry, row_step, column_step;
  long long first_token;

  DEVICE Strip(const Maps& map, int number, int image) : number(number), image(image) {
    int k = image / map.batch;
    bool along_h = map.along_h >> k & 1;
    int length = along_h ? map.height : map.width;
    rows = along_h ? map.width : map.height;
    column_step = along_h ? map.width : 1;
    row_step = along_h ? 1 : map.width;
    strips = (length + map.strip - 1) / map.strip;
    columns = min(map.strip, length - number * map.strip);
    int start = number * map.strip;
    entry = 0;
    if (map.reverse_first >> k & 1) {
      entry += (length - 1) * column_step;
      column_step = -column_step;
    }
    if (map.reverse_second >> k & 1) {
      entry += (rows - 1) * row_step;
      row_step = -row_step;
    }
    entry += start * column_step;
    first_token = (long long)image * map.height * map.width;
  }

  DEVICE bool there() const { return number < strips; }
  DEVICE bool is_last() const { return number + 1 == strips; }
  DEVICE int token(int row, int column) const {
    return entry + row * row_step + column * column_step;
  }
};

// A thread's patch of a state: of all threads of a warp, side by side. `PART` of its numbers are
// loaded and stored at once.
constexpr int PATCH = CHANNELS_HELD * STATES_HELD;
constexpr int WARP_PATCH = 32 * PATCH;
template <typename T>
constexpr int PART = PATCH * sizeof(T) < 16 ? PATCH : 16 / sizeof(T);

template <typename T>
DEVICE void load_patch(Tile& out, const T* from, int lane) {
#pragma unroll
  for (int i = 0; i < PATCH / PART<T>; ++i) {
    float part[PART<T>];
    read_numbers(part, from + (i * 32 + lane) * PART<T>);
#pragma unroll
    for (int j = 0; j < PART<T>; ++j) {
      out[(i * PART<T> + j) / STATES_HELD][(i * PART<T> + j) % STATES_HELD] = part[j];
    }
  }
}

template <typename T>
DEVICE void store_patch(T* to, const Tile& tile, int lane) {
#pragma unroll
  for (int i = 0; i < PATCH / PART<T>; ++i) {
    Pack<T, PART<T>> part;
#pragma unroll
    for (int j = 0; j < PART<T>; ++j) {
      int number = i * PART<T> + j;
      part.at[j] = from_float<T>(tile[number / STATES_HELD][number % STATES_HELD]);
    }
    *reinterpret_cast<Pack<T, PART<T>>*>(to + (i * 32 + lane) * PART<T>) = part;
  }
}

// What crosses the edges of strips and tiles, a warp's patches side by side; and the words by which
// strips tell how many rows they have done. Shapes, but for patches: p (slots, rows, images, groups),
// of which strip s has slot s % slots; q (tiles - 1, strips * strip, images, groups), what enters each
// tile but the first; done (strips, images, groups). Rows, tiles and strips are the corner's own.
//
// Two slots are enough, because a strip leaves a row only after the strip before has: by then this
// one has read what is overwritten.
struct Edges {
  float *p, *q;
  unsigned* done;
  int slots;

  // Of the strip itself, or of another one of its image.
  DEVICE float* p_at(const Maps& map, const Strip& strip, int number, int row, int group) const {
    long long line = (long long)(number % slots) * strip.rows + row;
    return p + ((line * map.images() + strip.image) * map.groups() + group) * WARP_PATCH;
  }
  DEVICE float* q_at(const Maps& map, const Strip& strip, int tile, int column, int group) const {
    long long line = ((long long)(tile - 1) * strip.strips + strip.number) * map.strip + column;
    return q + ((line * map.images() + strip.image) * map.groups() + group) * WARP_PATCH;
  }
  DEVICE unsigned* done_at(const Maps& map, const Strip& strip, int number, int group) const {
    return done + ((long long)number * map.images() + strip.image) * map.groups() + group;
  }
};

// What a step reads of a channel: both time steps, x, and the gradient of y where there is one.
struct alignas(16) Token {
  float first, second, x, of_y;
};

// The same of the thread's channels.
struct Step {
  Channels dt[2], x, of_y;

  DEVICE void read(const Token* of_thread, const Place& place) {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      Token token = of_thread[place.channel_at(c)];
      dt[0][c] = token.first;
      dt[1][c] = token.second;
      x[c] = token.x;
      of_y[c] = token.of_y;
    }
  }
};

// How often threads that load AT_ONCE tokens between them do so, to have TOKENS.
template <int TOKENS, int AT_ONCE>
constexpr int SWEEPS_FOR = (TOKENS + AT_ONCE - 1) / AT_ONCE;

// Fills shared memory with tokens of a row, (tokens, WARP_CHANNELS): a thread of a warp has the same
// channels of every AT_ONCE-th token. SWEEPS pieces of a thread are under way in registers at a time.
template <int SWEEPS, bool GRADIENT>
struct TokenStage {
  static constexpr int PIECES = WARP_CHANNELS / CHANNELS_HELD, AT_ONCE = 32 / PIECES;

  ChannelPlace place;
  int slot, column;
  const NUMBER *x, *first, *second, *of_y;
  Channels bias[2];
  Numbers<NUMBER, CHANNELS_HELD> raw[SWEEPS][GRADIENT ? 4 : 3];

  DEVICE TokenStage(const Coupled& scan, const NUMBER* grad_y, const Maps& map, const Strip& strip,
                    int warp_channel) {
    int lane = threadIdx.x % 32;
    slot = lane / PIECES;
    column = lane % PIECES * CHANNELS_HELD;
    place.channel = warp_channel + column;
    place.channels = map.channels;
    long long at = strip.first_token * map.channels + place.channel;
    x = scan.x + at;
    first = scan.delta + at;
    second = first + map.tokens() * map.channels;
    of_y = GRADIENT ? grad_y + at : nullptr;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        bool there = HAS_BIAS && place.has_channel(c);
        bias[k][c] = there ? scan.bias[k * map.channels + place.channel + c] : 0.f;
      }
    }
  }

  // The first token, and how far the others are apart.
  DEVICE void begin(int token, int step, int tokens) {
#pragma unroll
    for (int i = 0; i < SWEEPS; ++i) {
      int which = slot + i * AT_ONCE;
      bool there = which < tokens;
      int at = there ? (token + which * step) * place.channels : 0;
      place.load(raw[i][0], first + at, there);
      place.load(raw[i][1], second + at, there);
      place.load(raw[i][2], x + at, there);
      if constexpr (GRADIENT) place.load(raw[i][3], of_y + at, there);
    }
  }

  DEVICE void finish(Token* to, int tokens) const {
#pragma unroll
    for (int i = 0; i < SWEEPS; ++i) {
      int which = slot + i * AT_ONCE;
      Channels dt[2], x, of_y = {};
      raw[i][0].get(dt[0]);
      raw[i][1].get(dt[1]);
      raw[i][2].get(x);
      if constexpr (GRADIENT) raw[i][3].get(of_y);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          if (HAS_BIAS) dt[k][c] += bias[k][c];
          if (SOFTPLUS) dt[k][c] = softplus(dt[k][c]);
        }
        Token token = {dt[0][c], dt[1][c], x[c], of_y[c]};
        if (which < tokens) to[which * WARP_CHANNELS + column + c] = token;
      }
    }
  }
};

// B and C of a token in shared memory: (2, STATES) of each.
constexpr int SIDE = 2 * STATES, BOTH_SIDES = 2 * SIDE;

// Fills shared memory with B and C of tokens of a row, (tokens, 2, 2, STATES), by THREADS threads;
// zeros for states that do not exist.
template <int SWEEPS, int THREADS>
struct SideStage {
  static constexpr int PIECES = SIDE / SIDES, PER = PIECES > THREADS ? PIECES / THREADS : 1;
  static constexpr int AT_ONCE = THREADS * PER / PIECES;

  const NUMBER *B, *C;
  int B_token, C_token, slot, column, states;
  Numbers<NUMBER, SIDES> raw[SWEEPS][PER][2];

  DEVICE SideStage(const Coupled& scan, const Maps& map, const Strip& strip, int thread)
      : B_token(scan.B_token),
        C_token(scan.C_token),
        slot(thread * PER / PIECES),
        column(thread * PER % PIECES * SIDES),
        states(map.states) {
    B = scan.B + strip.first_token * B_token;
    C = scan.C + strip.first_token * C_token;
  }

  DEVICE void begin(int token, int step, int tokens) {
#pragma unroll
    for (int i = 0; i < SWEEPS; ++i) {
      int which = slot + i * AT_ONCE;
      bool there = slot < AT_ONCE && which < tokens;
      int at = there ? token + which * step : 0;
#pragma unroll
      for (int j = 0; j < PER; ++j) {
        int number = column + j * SIDES, state = number % STATES;
        int from = number / STATES * states + state;
        if (there && state < states) {
          raw[i][j][0].load(B + at * B_token + from);
          raw[i][j][1].load(C + at * C_token + from);
        } else {
          raw[i][j][0].clear();
          raw[i][j][1].clear();
        }
      }
    }
  }

  DEVICE void finish(float* to, int tokens) const {
#pragma unroll
    for (int i = 0; i < SWEEPS; ++i) {
      int which = slot + i * AT_ONCE;
      if (slot >= AT_ONCE || which >= tokens) continue;
#pragma unroll
      for (int j = 0; j < PER; ++j) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          float numbers[SIDES];
          raw[i][j][side].get(numbers);
          Pack<float, SIDES> pack;
#pragma unroll
          for (int n = 0; n < SIDES; ++n) pack.at[n] = numbers[n];
          float* target = to + which * BOTH_SIDES + side * SIDE + column + j * SIDES;
          *reinterpret_cast<Pack<float, SIDES>*>(target) = pack;
        }
      }
    }
  }
};

// Whether the weights of all the warp's channels are far enough above zero to be part of the
// exponents, which saves four multiplications for each token and state.
DEVICE bool weights_fold(const Coupled& scan, const Place& place) {
  bool fold = true;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      if (place.has_channel(c)) fold &= scan.weight[i * place.channels + place.channel + c] > 1e-6f;
    }
  }
  return !any_in_warp(!fold);
}

// What a thread needs of the parameters: A[2 k + l], times log2(e), is what state k takes from l. If
// FOLDED, `weight` is the weight's logarithm, and decays have it.
template <bool FOLDED>
struct Rates {
  Tile A[4];
  Channels weight[4];

  DEVICE Rates(const Coupled& scan, const Place& place) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      long long rates = (long long)i * place.channels * place.states;
      load_tile(A[i], scan.A + rates, place.states, place, LOG2E);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        int channel = place.channel_at(c);
        const float* from = scan.weight + i * place.channels + place.channel + channel;
        weight[i][c] = place.has_channel(channel) ? *from : 1.f;
        if (FOLDED) weight[i][c] = log2_approx(weight[i][c]);
      }
    }
  }

  // exp(dt A) of state n of channel c.
  DEVICE float decay(int i, const Step& now, int c, int n) const {
    float power = now.dt[i / 2][c] * A[i][c][n];
    if (FOLDED) power += weight[i][c];
    return exp2_approx(power);
  }

  // What a decay has been multiplied with, times the weight.
  DEVICE float weigh(int i, int c, float value) const {
    return FOLDED ? value : weight[i][c] * value;
  }

  // The state that takes a share of two others, beside what drives it: p for i = 0, q for i = 2.
  DEVICE float take(int i, int c, float decay_p, float p, float decay_q, float q,
                    float drive) const {
    if (FOLDED) return decay_p * p + (decay_q * q + drive);
    return weight[i][c] * (decay_p * p) + (weight[i + 1][c] * (decay_q * q) + drive);
  }
};

// Both states, from those before a token to those behind it; `sides` is the thread's part of B and C.
template <bool FOLDED>
DEVICE void advance(Tile& p, Tile& q, const Step& now, const Rates<FOLDED>& rates,
                    const float* sides) {
  States B[2];
  read_numbers(B[0], sides);
  read_numbers(B[1], sides + STATES);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    float first = now.dt[0][c] * now.x[c], second = now.dt[1][c] * now.x[c];
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      float of_p = p[c][n], of_q = q[c][n];
      p[c][n] = rates.take(0, c, rates.decay(0, now, c, n), of_p, rates.decay(1, now, c, n), of_q,
                           first * B[0][n]);
      q[c][n] = rates.take(2, c, rates.decay(2, now, c, n), of_p, rates.decay(3, now, c, n), of_q,
                           second * B[1][n]);
    }
  }
}
