// What both passes of the exact 2D recurrence share: arguments, geometry, and a step ahead.
//
// A corner walks over its map row by row, where a row is a lane of its first direction. The state p
// moves along a row, the state q from row to row. A map is cut into strips of neighbouring columns.
// A warp walks down a strip with p in registers; the strips work side by side, each some rows behind
// the one that it takes p from.
//
// Given to the compiler, beside what tile.cuh needs: STAGED, how many pieces of a token a thread loads
// at a time when it fills shared memory; NUMBER, the type of maps, of B and of C; SIDES,
// numbers of B and C that are loaded at once; HAS_D; HAS_BIAS; SOFTPLUS; WARPS of a block; BLOCKS of
// a multiprocessor; POLYNOMIAL, of how many exponentials one is by ordinary arithmetic, 0 for none.
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
// direction walk backwards, and whether the first one is along H. `strips` and `rows` are the most
// that a corner has; a strip has `strip` columns, a tile `tile` rows.
struct Maps {
  int batch, height, width, channels, states, corners;
  unsigned reverse_first, reverse_second, along_h;
  int strip, strips, rows, tile;

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

// A thread's patch of a state: of all threads of a warp, side by side.
constexpr int PATCH = CHANNELS_HELD * STATES_HELD;
constexpr int PART = PATCH < 4 ? PATCH : 4;
constexpr int WARP_PATCH = 32 * PATCH;

DEVICE void load_patch(Tile& out, const float* from, int lane) {
#pragma unroll
  for (int i = 0; i < PATCH / PART; ++i) {
    Pack<float, PART> part = reinterpret_cast<const Pack<float, PART>*>(from)[i * 32 + lane];
#pragma unroll
    for (int j = 0; j < PART; ++j) {
      out[(i * PART + j) / STATES_HELD][(i * PART + j) % STATES_HELD] = part.at[j];
    }
  }
}

DEVICE void store_patch(float* to, const Tile& tile, int lane) {
#pragma unroll
  for (int i = 0; i < PATCH / PART; ++i) {
    Pack<float, PART> part;
#pragma unroll
    for (int j = 0; j < PART; ++j) {
      part.at[j] = tile[(i * PART + j) / STATES_HELD][(i * PART + j) % STATES_HELD];
    }
    reinterpret_cast<Pack<float, PART>*>(to)[i * 32 + lane] = part;
  }
}

// What crosses the edges of strips and tiles, a warp's patches side by side; and the words by which
// strips tell how many rows they have done. Shapes, but for patches: p (slots, rows, images, groups),
// of which strip s has slot s % slots; q (tiles - 1, strips * strip, images, groups), what enters each
// tile but the first; done (strips, images, groups).
//
// Two slots are enough, because a strip leaves a row only after the strip before has: by then this
// one has read what is overwritten.
struct Edges {
  float *p, *q;
  unsigned* done;
  int slots;

  DEVICE float* p_at(const Maps& map, int strip, int row, int image, int group) const {
    long long line = (long long)(strip % slots) * map.rows + row;
    return p + ((line * map.images() + image) * map.groups() + group) * WARP_PATCH;
  }
  DEVICE float* q_at(const Maps& map, int tile, int column, int image, int group) const {
    long long line = (long long)(tile - 1) * map.strips * map.strip + column;
    return q + ((line * map.images() + image) * map.groups() + group) * WARP_PATCH;
  }
  DEVICE unsigned* done_at(const Maps& map, int strip, int image, int group) const {
    return done + ((long long)strip * map.images() + image) * map.groups() + group;
  }
};

// What a step reads of a channel: both time steps, x, and the gradient of y where there is one.
struct alignas(16) Token {
  float first, second, x, of_y;
};

// The same of the thread's channels.
struct Step {
  Channels dt[2], x, of_y;

  DEVICE void read(const Token* of_warp, const Place& place) {
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) {
      Token token = of_warp[place.in_warp() + place.channel_at(c)];
      dt[0][c] = token.first;
      dt[1][c] = token.second;
      x[c] = token.x;
      of_y[c] = token.of_y;
    }
  }
};

// Both time steps behind bias and softplus.
DEVICE float finish_time(float raw, const float* bias, int channel, bool there) {
  if (HAS_BIAS && there) raw += bias[channel];
  return SOFTPLUS ? softplus(raw) : raw;
}

// A warp puts tokens of a row into shared memory, (tokens, WARP_CHANNELS); zeros for channels that
// do not exist. `grad_y` may be null.
DEVICE void stage_tokens(Token* to, const Coupled& scan, const NUMBER* grad_y, const Maps& map,
                         const Strip& strip, int row, int first, int tokens, int warp_channel) {
  constexpr int CHUNKS = WARP_CHANNELS / CHANNELS_HELD, DEPTH = STAGED;
  int lane = threadIdx.x % 32;
  long long image = strip.first_token * map.channels, other = map.tokens() * map.channels;
  for (int begin = lane; begin < tokens * CHUNKS; begin += 32 * DEPTH) {
    Numbers<NUMBER, CHANNELS_HELD> raw[DEPTH][4];
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) {
      int which = begin + 32 * i;
      ChannelPlace place = {warp_channel + which % CHUNKS * CHANNELS_HELD, map.channels};
      bool there = which < tokens * CHUNKS;
      int token = strip.token(row, first + (there ? which / CHUNKS : 0));
      long long at = image + token * map.channels + place.channel;
      place.load(raw[i][0], scan.delta + at, there);
      place.load(raw[i][1], scan.delta + other + at, there);
      place.load(raw[i][2], scan.x + at, there);
      if (grad_y != nullptr) {
        place.load(raw[i][3], grad_y + at, there);
      } else {
        raw[i][3].clear();
      }
    }
#pragma unroll
    for (int i = 0; i < DEPTH; ++i) {
      int which = begin + 32 * i, column = which % CHUNKS * CHANNELS_HELD;
      if (which >= tokens * CHUNKS) continue;
      Channels dt[2], x, of_y;
      raw[i][0].get(dt[0]);
      raw[i][1].get(dt[1]);
      raw[i][2].get(x);
      raw[i][3].get(of_y);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        int channel = warp_channel + column + c;
        bool there = channel < map.channels;
        float one = finish_time(dt[0][c], scan.bias, channel, there);
        float two = finish_time(dt[1][c], scan.bias + map.channels, channel, there);
        to[which / CHUNKS * WARP_CHANNELS + column + c] = {one, two, x[c], of_y[c]};
      }
    }
  }
}

// Some threads put B or C of tokens of a row into shared memory, (tokens, 2, STATES); zeros for
// states that do not exist.
DEVICE void stage_sides(float* to, const NUMBER* from, int side_token, const Maps& map,
                        const Strip& strip, int row, int first, int tokens, int thread,
                        int threads) {
  constexpr int CHUNKS = 2 * STATES / SIDES;
  from += strip.first_token * side_token;
#pragma unroll 4
  for (int which = thread; which < tokens * CHUNKS; which += threads) {
    int column = which % CHUNKS * SIDES, state = column % STATES;
    int token = strip.token(row, first + which / CHUNKS);
    float numbers[SIDES] = {};
    if (state < map.states) {
      read_numbers(numbers, from + token * side_token + column / STATES * map.states + state);
    }
    Pack<float, SIDES> pack;
#pragma unroll
    for (int i = 0; i < SIDES; ++i) pack.at[i] = numbers[i];
    *reinterpret_cast<Pack<float, SIDES>*>(to + which * SIDES) = pack;
  }
}

// What a thread needs of the parameters: A[2 k + l], times log2(e), is what state k takes from l.
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
        weight[i][c] = place.has_channel(channel) ? *from : 0.f;
      }
    }
  }

  // exp(dt A) of state n of channel c.
  DEVICE float decay(int i, const Step& now, int c, int n) const {
    float power = now.dt[i / 2][c] * A[i][c][n];
    if (POLYNOMIAL && (4 * n + i) % (POLYNOMIAL ? POLYNOMIAL : 1) == 0) {
      return exp2_polynomial(power);
    }
    return exp2_approx(power);
  }
};

// B or C of one token and state k, from shared memory.
DEVICE void read_side(States& out, const float* token, int k, const Place& place) {
  read_numbers(out, token + k * STATES + place.state);
}

// Both states, from those before a token to those behind it.
DEVICE void advance(Tile& p, Tile& q, const Step& now, const Rates& rates, const float* B_token,
                    const Place& place) {
  States B[2];
  read_side(B[0], B_token, 0, place);
  read_side(B[1], B_token, 1, place);
#pragma unroll
  for (int c = 0; c < CHANNELS_HELD; ++c) {
    float first = now.dt[0][c] * now.x[c], second = now.dt[1][c] * now.x[c];
#pragma unroll
    for (int n = 0; n < STATES_HELD; ++n) {
      float of_p = p[c][n], of_q = q[c][n];
      p[c][n] = rates.weight[0][c] * (rates.decay(0, now, c, n) * of_p) +
                (rates.weight[1][c] * (rates.decay(1, now, c, n) * of_q) + first * B[0][n]);
      q[c][n] = rates.weight[2][c] * (rates.decay(2, now, c, n) * of_p) +
                (rates.weight[3][c] * (rates.decay(3, now, c, n) * of_q) + second * B[1][n]);
    }
  }
}
