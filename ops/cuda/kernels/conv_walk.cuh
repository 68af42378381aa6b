// What a walk of the convolution's backward pass reads and leaves behind, stretch by stretch.
//
// Given to the compiler besides what conv.cuh needs: SENSES, how many directions a walk serves: the
// one along it, or the opposite one too; SHARED_X, whether one input serves all directions. ADDS says
// whether to add to what other launches have left of the gradients that directions share.
#pragma once

#include "conv.cuh"

// Steps that an input waits until every tap has seen it.
constexpr int WAIT = TAPS - 1;
// Maps of inputs: directions may share one.
constexpr int INPUTS = SHARED_X ? 1 : SENSES;

struct ConvGradients {
  NUMBER *x, *gate;
  float *weight, *bias;
  int x_token, gate_token;
};

// What is under way of a stretch: of the WAIT tokens before it and of its own.
struct Stretch {
  typedef Held Row[WAIT + STEPS];
  Row x[INPUTS], gate, dy[SENSES], before_x, before_gate;
  float opening[WAIT + STEPS][CHANNELS_HELD];  // sigmoid of the gate

  DEVICE void begin() {
    each_row([](Row& row) {
#pragma unroll
      for (int i = 0; i < WAIT; ++i) row[i].clear();
    });
#pragma unroll
    for (int i = 0; i < WAIT; ++i) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) opening[i][c] = 0.f;
    }
  }

  // The end of a stretch is what goes before the next.
  DEVICE void move_on() {
    each_row([](Row& row) {
#pragma unroll
      for (int i = 0; i < WAIT; ++i) row[i] = row[i + STEPS];
    });
#pragma unroll
    for (int i = 0; i < WAIT; ++i) {
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) opening[i][c] = opening[i + STEPS][c];
    }
  }

 private:
  template <typename Function>
  DEVICE void each_row(Function function) {
#pragma unroll
    for (int s = 0; s < INPUTS; ++s) function(x[s]);
#pragma unroll
    for (int s = 0; s < SENSES; ++s) function(dy[s]);
    function(gate);
    function(before_x);
    function(before_gate);
  }
};

// Where a thread finds what its walk reads next. Addresses that move cost an instruction each, those
// worked out for every token four.
struct Reading {
  const NUMBER *x[INPUTS], *gate, *dy[SENSES], *before_x, *before_gate;
  int x_step, gate_step, step, before_x_step, before_gate_step, left;

  // Begin to load the next stretch, which has all of its tokens if it is WHOLE.
  template <bool WHOLE, bool ADDS>
  DEVICE void next(Stretch& now, const ChannelPlace& place) {
#pragma unroll
    for (int i = WAIT; i < WAIT + STEPS; ++i) {
      bool there = WHOLE || i - WAIT < left;
#pragma unroll
      for (int s = 0; s < INPUTS; ++s) load(now.x[s][i], x[s], x_step, there, place);
      if (HAS_GATE) load(now.gate[i], gate, gate_step, there, place);
#pragma unroll
      for (int s = 0; s < SENSES; ++s) load(now.dy[s][i], dy[s], step, there, place);
      if (ADDS && SHARED_X) load(now.before_x[i], before_x, before_x_step, there, place);
      if (ADDS && HAS_GATE) {
        load(now.before_gate[i], before_gate, before_gate_step, there, place);
      }
    }
    left -= STEPS;
  }

 private:
  DEVICE static void load(Held& out, const NUMBER*& from, int distance, bool there,
                          const ChannelPlace& place) {
    place.load(out, from, there);
    from += distance;
  }
};

// Where it leaves the gradients of inputs, WAIT tokens behind what it has read.
struct Leaving {
  NUMBER *x[INPUTS], *gate;
  int x_step, gate_step;

  // Leave those of an input, if it is `there`: `grad` is what its taps have left it, before the
  // gate; it is number `i` of the stretch.
  template <bool ADDS>
  DEVICE void next(Channels (&grad)[INPUTS], const Stretch& now, int i, bool there,
                   const ChannelPlace& place) {
    if (HAS_GATE) gate_gradients<ADDS>(grad, now, i, there, place);
    if (ADDS && SHARED_X) add(grad[0], now.before_x[i]);
#pragma unroll
    for (int s = 0; s < INPUTS; ++s) store(x[s], grad[s], x_step, there, place);
  }

 private:
  template <bool ADDS>
  DEVICE void gate_gradients(Channels (&grad)[INPUTS], const Stretch& now, int i, bool there,
                           const ChannelPlace& place) {
    Channels gates, to_gate = {};
    now.gate[i].get(gates);
#pragma unroll
    for (int s = 0; s < INPUTS; ++s) {
      Channels inputs;
      now.x[s][i].get(inputs);
#pragma unroll
      for (int c = 0; c < CHANNELS_HELD; ++c) {
        to_gate[c] += grad[s][c] * inputs[c];
        grad[s][c] *= gates[c] * now.opening[i][c];
      }
    }
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) to_gate[c] *= silu_grad(gates[c], now.opening[i][c]);
    if (ADDS) add(to_gate, now.before_gate[i]);
    store(gate, to_gate, gate_step, there, place);
  }

  DEVICE static void add(Channels& grad, const Held& before) {
    Channels others;
    before.get(others);
#pragma unroll
    for (int c = 0; c < CHANNELS_HELD; ++c) grad[c] += others[c];
  }

  DEVICE static void store(NUMBER*& to, const Channels& grad, int distance, bool there,
                           const ChannelPlace& place) {
    place.store(to, grad, there);
    to += distance;
  }
};

// Positions, among all directions, of the first one that a launch walks along (others follow it), and
// of the opposite one that it serves too; whether the launch begins with the last lanes; and ADDS.
struct Positions {
  int first, opposite, last_lanes_first, adds;
};

// Begin to read and to leave at the start of a lane.
DEVICE void begin_walk(Reading& reading, Leaving& leaving, const Conv& conv, const NUMBER* grad_y,
                       const ConvGradients& grads, const Map& map, Lane lane,
                       const Positions& positions, const ChannelPlace& place) {
  int along = positions.first + lane.k;
  reading.step = lane.step * map.channels;
  reading.before_x_step = leaving.x_step = lane.step * grads.x_token;
  reading.before_gate_step = leaving.gate_step = lane.step * grads.gate_token;
#pragma unroll
  for (int s = 0; s < SENSES; ++s) {
    lane.k = s ? positions.opposite : along;
    long long token = lane.k * map.tokens() + lane.entry;
    InputWalk input(conv, lane, place);
    reading.gate = input.gate;
    reading.x_step = input.x_step;
    reading.gate_step = input.gate_step;
    reading.dy[s] = grad_y + token * map.channels + place.channel;
    if (s < INPUTS) {
      reading.x[s] = input.x;
      leaving.x[s] = grads.x + (SHARED_X ? lane.entry : token) * grads.x_token + place.channel -
                     (long long)WAIT * leaving.x_step;
    }
  }
  reading.before_x = grads.x + lane.entry * grads.x_token + place.channel;
  reading.before_gate =
      HAS_GATE ? grads.gate + lane.entry * grads.gate_token + place.channel : nullptr;
  leaving.gate =
      HAS_GATE ? grads.gate + lane.entry * grads.gate_token + place.channel -
                     (long long)WAIT * leaving.gate_step
               : nullptr;
  reading.left = lane.length;
}
