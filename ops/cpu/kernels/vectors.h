// Vectors of channels, and the functions of them that scans and convolutions need.
#pragma once

#include <algorithm>

#include "two.h"

namespace mmv2m {

constexpr int64_t WIDTH = 32;  // channels of a vector
using Vec = Several<WIDTH / Native::size()>::type;

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// Vectors that hold all channels; the last one may have channels that there are not.
inline int64_t count_vectors(int64_t channels) { return (channels + WIDTH - 1) / WIDTH; }

// How many channels of a vector there are.
inline int64_t count_channels(int64_t channels, int64_t vector) {
  return std::min(WIDTH, channels - vector * WIDTH);
}

// The first `count` channels from memory; the others are 0.
template <typename T>
inline Vec load(const T* from, int64_t count) {
  if (count < WIDTH) {
    T padded[WIDTH] = {};
    std::copy_n(from, count, padded);
    return load(padded, WIDTH);
  }
  if constexpr (std::is_same_v<T, float>) {
    return Vec::loadu(from);
  } else {
    Vec result;
    load_half(from, result);
    return result;
  }
}

// Writes the first `count` channels; half precision is rounded to the nearest.
template <typename T>
inline void store(T* to, Vec value, int64_t count) {
  if (count < WIDTH) {
    T padded[WIDTH];
    store(padded, value, WIDTH);
    std::copy_n(padded, count, to);
  } else if constexpr (std::is_same_v<T, float>) {
    value.store(to);
  } else {
    store_half(to, value);
  }
}

// The first `count` channels; the others are 0.
inline Vec first(Vec x, int64_t count) {
  if (count >= WIDTH) return x;
  float values[WIDTH];
  x.store(values);
  return load(values, count);
}

// 2^x for a fraction of at most 1/2, to 1e-7 of it, and exactly 1 at 0.
inline Vec exp2_of_fraction(Vec x) {
  Vec p = fmadd(x, Vec(0.0013264727f), Vec(0.0096715126f));
  p = fmadd(x, p, Vec(0.0555073374f));
  p = fmadd(x, p, Vec(0.2402224209f));
  p = fmadd(x, p, Vec(0.6931469776f));
  return fmadd(x, p, Vec(1.f));
}

// 2^x, to 1e-7 of it; 0 turns to 2^-126, what is too large to infinity, and NaN stays NaN. As it is
// exactly 1 at 0, the decays of many short steps do not gather an error.
inline Vec exp2(Vec x) {
#ifdef CPU_CAPABILITY_AVX512
  x = clamp_min(x, Vec(-126.f));
  const Vec remainder = fraction(x);
  return scale(exp2_of_fraction(remainder), x - remainder);
#else
  const Vec shift(12582912.f);  // 1.5 * 2^23, beside which there is no room for fractions
  x = clamp(x, Vec(-126.f), Vec(128.f));
  const Vec shifted = x + shift;
  return add_exponent(exp2_of_fraction(x - (shifted - shift)), shifted);
#endif
}

inline Vec exp(Vec x) { return exp2(x * Vec(LOG2_E)); }

inline Vec sigmoid(Vec x) { return Vec(1.f) / (Vec(1.f) + exp(x.neg())); }

inline Vec silu(Vec x) { return x / (Vec(1.f) + exp(x.neg())); }

// The derivative of silu.
inline Vec silu_slope(Vec x) {
  const Vec s = sigmoid(x);
  return s * fmadd(x, Vec(1.f) - s, Vec(1.f));
}

// log(1 + exp(x)) = max(x, 0) + log(1 + u) with u = exp(-|x|), and log(1 + u) = 2 artanh(s) with
// s = u / (2 + u) <= 1/3, of which a polynomial in s^2 remains.
inline Vec softplus(Vec x) {
  const Vec u = exp(x.abs().neg());
  const Vec s = u / (u + Vec(2.f)), q = s * s;
  Vec p = fmadd(q, Vec(0.2801198687f), Vec(0.2800180526f));
  p = fmadd(q, p, Vec(0.4002152724f));
  p = fmadd(q, p, Vec(0.6666641629f));
  p = fmadd(q, p, Vec(2.f));
  return fmadd(s, p, clamp_min(x, Vec(0.f)));
}

// The sum of a vector's channels, in a fixed order.
inline float sum(Vec x) {
  float values[WIDTH];
  x.store(values);
  for (int64_t half = WIDTH / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) values[i] += values[i + half];
  return values[0];
}

}  // namespace mmv2m
