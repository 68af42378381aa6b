// What gradients of the convolution's outputs get through their projection, grad @ weight: by warps,
// on the tensor cores, for a stretch of at most 8 tokens and all channels of the warp at a time.
//
// In the product weight.T @ grad.T, a thread's words of B are neighbouring columns of one token, for
// the sum over columns does not mind their order. The rows of A are numbered so that the four
// threads of a g sum up the channels that they hold; for other tokens than their own, so that they
// exchange them, in shared memory.
//
// Given to the compiler besides what conv_walk.cuh needs: COLUMNS of a token's `grad`, in sixteens, at
// most; none if nothing does.
#pragma once

#include "conv_walk.cuh"
#include "matrix.cuh"

// Shapes: grad (K, tokens, 16 * parts), zero from `width` on; weight (width, E). A part is `apart` from
// the next one; or if there is a single one, and COLUMNS is two, none: it is read twice, and multiplied
// by zeros the second time.
struct ProjectedGradient {
  const NUMBER* grad;
  const float* weight;
  int width, parts, apart;
};

typedef Pack<unsigned, 2> Words;  // four numbers

template <int COUNT>
struct ProjectedWalk {
  static constexpr int TILES = 2 * CHANNELS_HELD;
  // Rows of the exchange are apart by other than multiples of the banks, and aligned.
  static constexpr int ROW = 32 * CHANNELS_HELD + (CHANNELS_HELD > 2 ? CHANNELS_HELD : 2);

  // A warp's words of A, in the order in which threads load them; sums of its tokens and channels.
  struct Shared {
    Quad weight[TILES][COUNT][32];
    float sums[8][ROW];
  };

  Shared& shared;
  const ProjectedGradient& given;
  int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const NUMBER* at;
  long long to_opposite;  // from there
  int step;
  Words words[SENSES][COUNT];

  DEVICE ProjectedWalk(Shared& shared, const ProjectedGradient& given, const ChannelPlace& place)
      : shared(shared), given(given) {
    // The first channel of those that the four threads of this g hold.
    int first = place.channel - t * CHANNELS_HELD;
#pragma unroll
    for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
      for (int part = 0; part < COUNT; ++part) {
        Quad& quad = shared.weight[tile][part][lane];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          int channel = first + 2 * tile + i % 2, column = (part * 4 + t) * 4 + i / 2 * 2;
          quad.at[i] = pack_two<NUMBER>(number(given, place, channel, column),
                                        number(given, place, channel, column + 1));
        }
      }
    }
  }

  // At the start of a lane, like begin_walk().
  DEVICE void begin(const Map& map, const Lane& lane, const Positions& positions) {
    int parts = given.parts;
    step = lane.step * 16 * parts;
    long long token = (positions.first + lane.k) * map.tokens() + lane.entry;
    at = given.grad + token * 16 * parts + (long long)g * step + t * 4;
    to_opposite = (positions.opposite - positions.first) * map.tokens() * 16 * parts;
  }

  // Begin to load the next stretch. `left` tokens are left, which are at least STEPS if it is WHOLE.
  template <bool WHOLE>
  DEVICE void next(int left) {
    bool there = g < STEPS && (WHOLE || g < left);
#pragma unroll
    for (int s = 0; s < SENSES; ++s) {
      const NUMBER* from = s ? at + to_opposite : at;
#pragma unroll
      for (int part = 0; part < COUNT; ++part) {
        words[s][part] = there ? *reinterpret_cast<const Words*>(from + part * given.apart) : Words{};
      }
    }
    at += STEPS * step;
  }

  // Add to gradients what comes from the projection.
  DEVICE void add_to(Stretch& now) {
#pragma unroll
    for (int s = 0; s < SENSES; ++s) {
#pragma unroll
      for (int tile = 0; tile < TILES; ++tile) sum_tile(words[s], tile);
      __syncwarp();
#pragma unroll
      for (int j = 0; j < STEPS; ++j) {
        Held& dy = now.dy[s][WAIT + j];
        dy = sum(dy, &shared.sums[j][lane * CHANNELS_HELD]);
      }
      __syncwarp();
    }
  }

 private:
  DEVICE static float number(const ProjectedGradient& given, const ChannelPlace& place, int channel,
                             int column) {
    bool there = channel < place.channels && column < given.width;
    return there ? given.weight[(long long)column * place.channels + channel] : 0.f;
  }

  // Those of two channels and two tokens.
  DEVICE void sum_tile(const Words (&b)[COUNT], int tile) {
    float sums[4] = {};
#pragma unroll
    for (int part = 0; part < COUNT; ++part) {
      Quad a = shared.weight[tile][part][lane];
      multiply<NUMBER>(sums, a.at, b[part].at[0], b[part].at[1]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float* to = &shared.sums[2 * t + i][g * 4 * CHANNELS_HELD + 2 * tile];
      *reinterpret_cast<Pack<float, 2>*>(to) = {sums[i], sums[i + 2]};
    }
  }

  DEVICE static Held sum(const Held& one, const float* other) {
    Channels values, others;
    one.get(values);
    read_numbers(others, other);
    Pack<NUMBER, CHANNELS_HELD> rounded;
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) rounded.at[c] = from_float<NUMBER>(values[c] + others[c]);
    Held result;
    result.load(rounded.at);
    return result;
  }
};

// Nothing comes from a projection.
template <>
struct ProjectedWalk<0> {
  struct Shared {};

  DEVICE ProjectedWalk(Shared&, const ProjectedGradient&, const ChannelPlace&) {}
  DEVICE void begin(const Map&, const Lane&, const Positions&) {}
  template <bool WHOLE>
  DEVICE void next(int) {}
  DEVICE void add_to(Stretch&) {}
};
