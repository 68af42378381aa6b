// Causal depthwise convolution and SiLU, in several directions, on a map that may be gated, and the
// projection of what they make, which a warp has in registers: conv_forward.cu and projection.cu in
// one.
//
// Lanes are cut into segments of TOKENS_HELD tokens, in the order of the walk. A warp owns eight
// at a time, which are TILES tiles of the projection: rows g and g + 8 of tile i are the tokens 2 i
// and 2 i + 1 of segment g. So a thread convolves 8 neighbouring channels of a segment, and has the
// very words that the first product takes from it. What the taps see before a segment another
// thread has; but for the warp's first one, for which it is loaded and gated once more.
//
// Given to the compiler, beside what conv.cuh and projection.cuh need: TOKENS_HELD, an even number;
// CHANNELS_AT_ONCE, of a thread's channels those that it convolves together, 2 or 4; AHEAD, groups
// of channels whose loads it has under way together. CHANNELS_HELD is 8, and
// 1 < TAPS <= TOKENS_HELD + 1.
#include "conv.cuh"
#include "projection.cuh"

constexpr int TILES = TOKENS_HELD / 2, BEFORE = TAPS - 1, SEGMENTS = 8;
constexpr int BITES = 8 / CHANNELS_AT_ONCE;

typedef float Some[CHANNELS_AT_ONCE];

// In shared memory: the taps of a thread's channels, as it loads them, and behind them their biases.
struct Filters {
  Pack<float, CHANNELS_AT_ONCE> at[GROUPS][TAPS + 1][BITES][4];
};

struct Shared {
  Weights weights;
  Filters filters;
};

DEVICE void fill(Filters& filters, const Conv& conv) {
  float* out = &filters.at[0][0][0][0].at[0];
  for (int i = threadIdx.x; i < GROUPS * (TAPS + 1) * 32; i += WARPS * 32) {
    int group = i / 32 / (TAPS + 1), tap = i / 32 % (TAPS + 1);
    int bite = i % 32 / 4 / CHANNELS_AT_ONCE, t = i / CHANNELS_AT_ONCE % 4;
    int channel = group * 32 + t * 8 + bite * CHANNELS_AT_ONCE + i % CHANNELS_AT_ONCE;
    float value = 0;
    if (channel < CHANNELS && tap < TAPS) value = conv.weight[channel * TAPS + tap];
    if (channel < CHANNELS && tap == TAPS && HAS_BIAS) value = conv.bias[channel];
    out[i] = value;
  }
}

// How the maps are cut: every lane into as many segments as the longest one has. They are numbered
// image by image, through all directions, so that what these share comes from memory once.
struct Cut {
  int of_lane, lanes_of_image, all;

  DEVICE explicit Cut(const Map& map) : of_lane(1), lanes_of_image(0) {
    for (int k = 0; k < map.directions; ++k) {
      of_lane = max(of_lane, (map.length(k) + TOKENS_HELD - 1) / TOKENS_HELD);
      lanes_of_image += lanes(map, k);
    }
    all = map.batch * lanes_of_image * of_lane;
  }
  DEVICE static int lanes(const Map& map, int k) {
    return map.is_along_h(k) ? map.width : map.height;
  }
  DEVICE Lane lane_of(const Map& map, int segment) const {
    int lane = segment / of_lane, image = lane / lanes_of_image, before = 0, k = 0;
    for (lane %= lanes_of_image; lane >= lanes(map, k); ++k) {
      lane -= lanes(map, k);
      before += map.lanes(k);
    }
    return find_lane(map, before + image * lanes(map, k) + lane);
  }
};

// A thread's segment, which may be empty: its first token, counted through all directions, and where
// the thread finds its 8 channels of that one's input.
struct Segment {
  int token, step, length;
  bool begins_lane;
  InputWalk input;

  DEVICE Segment(const Conv& conv, const Map& map, const Cut& cut, int number, const Place& place)
      : Segment(conv, map, cut.lane_of(map, min(number, cut.all - 1)),
                number < cut.all ? number % cut.of_lane * TOKENS_HELD : map.height + map.width,
                place) {}

  DEVICE void load(Held& x, Held& gate, int group, int j, const Place& place) const {
    ChannelPlace channels = {group * 32 + place.t * 8, CHANNELS};
    channels.load(x, input.x + j * input.x_step + group * 32);
    if (HAS_GATE) channels.load(gate, input.gate + j * input.gate_step + group * 32);
  }

 private:
  // From `first` on, which may lie behind the lane's end.
  DEVICE Segment(const Conv& conv, const Map& map, Lane lane, int first, const Place& place)
      : step(lane.step),
        length(max(min(lane.length - first, TOKENS_HELD), 0)),
        begins_lane(first == 0 || length == 0),
        input(conv, move(lane, length ? first : 0), {place.t * 8, CHANNELS}) {
    token = lane.k * map.tokens() + lane.entry;
  }
  DEVICE static const Lane& move(Lane& lane, int tokens) {
    lane.entry += tokens * lane.step;
    return lane;
  }
};

// What a thread has loaded of a group: behind a segment's last token, copies of it.
struct Loaded {
  Held x[TOKENS_HELD], gate[TOKENS_HELD];

  DEVICE void load(const Segment& segment, int group, const Place& place) {
    if (group >= GROUPS) return;
    int last = max(segment.length, 1) - 1;
#pragma unroll
    for (int j = 0; j < TOKENS_HELD; ++j) segment.load(x[j], gate[j], group, min(j, last), place);
  }
};

// Some channels' inputs of the convolution: those of the segment, and those before it in the lane.
typedef float Inputs[BEFORE + TOKENS_HELD][CHANNELS_AT_ONCE];

DEVICE void open_some(Some& out, const Held& x, const Held& gate, int bite) {
  Channels all;
  Some opening;
  x.get(all);
#pragma unroll
  for (int c = 0; c < CHANNELS_AT_ONCE; ++c) out[c] = all[bite * CHANNELS_AT_ONCE + c];
  if (!HAS_GATE) return;
  gate.get(all);
#pragma unroll
  for (int c = 0; c < CHANNELS_AT_ONCE; ++c) opening[c] = all[bite * CHANNELS_AT_ONCE + c];
  open_gate(out, opening);
}

// `reaches_out`: whether the warp's first segment has tokens before it.
DEVICE void open(Inputs& inputs, const Loaded& loaded, const Segment& segment, bool reaches_out,
                 int group, int bite, const Place& place) {
#pragma unroll
  for (int j = 0; j < TOKENS_HELD; ++j) {
    open_some(inputs[BEFORE + j], loaded.x[j], loaded.gate[j], bite);
  }
#pragma unroll
  for (int i = 0; i < BEFORE; ++i) {
#pragma unroll
    for (int c = 0; c < CHANNELS_AT_ONCE; ++c) {
      float before = from_lane(inputs[TOKENS_HELD + i][c], (threadIdx.x + 28) % 32);
      inputs[i][c] = segment.begins_lane ? 0.f : before;
    }
  }
  if (!reaches_out) return;
  bool first = place.g == 0 && !segment.begins_lane;
#pragma unroll
  for (int i = 0; i < BEFORE; ++i) {
    Held x, gate;
    Some early;
    segment.load(x, gate, group, first ? i - BEFORE : 0, place);
    open_some(early, x, gate, bite);
#pragma unroll
    for (int c = 0; c < CHANNELS_AT_ONCE; ++c) inputs[i][c] = first ? early[c] : inputs[i][c];
  }
}

// A group's outputs, as words of each token.
typedef Quad Outputs[TILES][2];

DEVICE void convolve_some(Outputs& outputs, const Inputs& inputs, const Filters& filters, int group,
                          int bite, const Place& place) {
  float taps[TAPS + 1][CHANNELS_AT_ONCE];
#pragma unroll
  for (int tap = 0; tap <= TAPS; ++tap) {
    Pack<float, CHANNELS_AT_ONCE> some = filters.at[group][tap][bite][place.t];
#pragma unroll
    for (int c = 0; c < CHANNELS_AT_ONCE; ++c) taps[tap][c] = some.at[c];
  }
#pragma unroll
  for (int j = 0; j < TOKENS_HELD; ++j) {
    Some out;
    convolve(out, inputs + j, taps, taps[TAPS]);
#pragma unroll
    for (int c = 0; c < CHANNELS_AT_ONCE; c += 2) {
      unsigned two = pack_two<NUMBER>(out[c], out[c + 1]);
      outputs[j / 2][j % 2].at[(bite * CHANNELS_AT_ONCE + c) / 2] = two;
    }
  }
}

// `y` is where a thread's channels of the segment's first token are.
DEVICE void store(NUMBER* y, const Outputs& outputs, const Segment& segment, int group,
                  const Place& place) {
#pragma unroll
  for (int j = 0; j < TOKENS_HELD; ++j) {
    if (j >= segment.length || !place.has_channels(group)) continue;
    *reinterpret_cast<Quad*>(y + j * segment.step * CHANNELS) = outputs[j / 2][j % 2];
  }
}

// A thread's tokens of the warp's tiles.
DEVICE void find_tokens(Tokens (&tokens)[TILES], const Segment& segment, const Place& place) {
#pragma unroll
  for (int tile = 0; tile < TILES; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      int j = 2 * tile + i;
      tokens[tile].row[i] = j < segment.length ? segment.token + j * segment.step : -1;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      tokens[tile].column[i] = from_lane(tokens[tile].row[i / 2], place.t * 8 + i % 2 * 4);
    }
  }
}

// Grid: any number of blocks, which share out the segments of all directions.
//
// Shapes: x (K, tokens, E), or (tokens, E) for all; gate (tokens, E); conv.weight (E, TAPS);
// conv.bias (E,); y (K, tokens, E), as which the projection counts tokens.
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1)
    conv_projection(Conv conv, NUMBER* y, Projection given, Map map) {
  SHARED(Shared, shared);
  const Weights& weights = shared->weights;
  Place place;
  Cut cut(map);
  // Block by block first: where there are few left, every multiprocessor has some.
  int number = (threadIdx.x / 32 * gridDim.x + blockIdx.x) * SEGMENTS;
  int stride = WARPS * gridDim.x * SEGMENTS;
  Segment segment(conv, map, cut, number + place.g, place);
  Loaded loaded[AHEAD];
#pragma unroll
  for (int j = 0; j < AHEAD; ++j) loaded[j].load(segment, j, place);
  fill(shared->weights, given, place);
  fill(shared->filters, conv);
  __syncthreads();

  for (; number < cut.all; number += stride) {
    Sums sums[TILES] = {};
    NUMBER* out = y + (long long)segment.token * CHANNELS + place.t * 8;
    bool reaches_out = any_in_warp(place.g == 0 && !segment.begins_lane);
#pragma unroll 1
    for (int start = 0; start < GROUPS; start += AHEAD) {
#pragma unroll
      for (int ahead = 0; ahead < AHEAD; ++ahead) {
        int group = start + ahead;
        if (group >= GROUPS) break;
        Outputs outputs;
#pragma unroll
        for (int bite = 0; bite < BITES; ++bite) {
          Inputs inputs;
          open(inputs, loaded[ahead], segment, reaches_out, group, bite, place);
          if (bite + 1 == BITES) loaded[ahead].load(segment, group + AHEAD, place);
          convolve_some(outputs, inputs, shared->filters, group, bite, place);
          int channels = (bite + 1) * CHANNELS_AT_ONCE;
          if (channels % 4 == 0) project(sums, outputs, weights, group, channels / 4 - 1);
        }
        store(out, outputs, segment, group, place);
        out += 32;
      }
    }
    Tokens tokens[TILES];
    find_tokens(tokens, segment, place);
    // While the time steps are worked out, the next segment comes.
    segment = Segment(conv, map, cut, number + stride + place.g, place);
#pragma unroll
    for (int j = 0; j < AHEAD; ++j) loaded[j].load(segment, j, place);
    finish(given, tokens, place, sums, weights);
  }
}
