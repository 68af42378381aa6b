// Two vectors as one, and two of these as one again.
//
// A softplus is a hundred cycles of operations that wait for each other, and a core looks ahead no
// further than to the next one. So four vectors of the machine take each operation together.
// at::vec::VectorizedN does so in loops over an array, which g++ leaves in memory.
#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <cstdint>

namespace mmv2m {

using Native = at::vec::Vectorized<float>;

template <typename V>
struct Two {
  V a, b;

  static constexpr int64_t size() { return 2 * V::size(); }

  Two() = default;
  Two(V a, V b) : a(a), b(b) {}
  explicit Two(float value) : a(value), b(value) {}

  static Two loadu(const float* from) { return {V::loadu(from), V::loadu(from + V::size())}; }
  void store(float* to) const { a.store(to), b.store(to + V::size()); }

  Two neg() const { return {a.neg(), b.neg()}; }
  Two abs() const { return {a.abs(), b.abs()}; }

  friend Two operator+(Two x, Two y) { return {x.a + y.a, x.b + y.b}; }
  friend Two operator-(Two x, Two y) { return {x.a - y.a, x.b - y.b}; }
  friend Two operator*(Two x, Two y) { return {x.a * y.a, x.b * y.b}; }
  friend Two operator/(Two x, Two y) { return {x.a / y.a, x.b / y.b}; }
  friend Two fmadd(Two x, Two y, Two z) { return {fmadd(x.a, y.a, z.a), fmadd(x.b, y.b, z.b)}; }
  friend Two clamp_min(Two x, Two low) { return {clamp_min(x.a, low.a), clamp_min(x.b, low.b)}; }
  friend Two clamp(Two x, Two low, Two high) {
    return {clamp(x.a, low.a, high.a), clamp(x.b, low.b, high.b)};
  }
};

// As many vectors of the machine as one.
template <int64_t parts>
struct Several {
  using type = Two<typename Several<parts / 2>::type>;
};

template <>
struct Several<1> {
  using type = Native;
};

#ifdef CPU_CAPABILITY_AVX512
// x less the nearest integer; 0 for infinity.
inline Native fraction(Native x) {
  return _mm512_reduce_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// x times 2 to the power of an integer.
inline Native scale(Native x, Native integer) { return _mm512_scalef_ps(x, integer); }

template <typename V>
inline Two<V> fraction(Two<V> x) {
  return {fraction(x.a), fraction(x.b)};
}

template <typename V>
inline Two<V> scale(Two<V> x, Two<V> integer) {
  return {scale(x.a, integer.a), scale(x.b, integer.b)};
}
#else
// Adds the low bits of `integer` to the exponent of `power`.
inline Native add_exponent(Native power, Native integer) {
  using at::vec::cast;
  const at::vec::Vectorized<int32_t> bits(23);
  return cast<float>(cast<int32_t>(power) + (cast<int32_t>(integer) << bits));
}

template <typename V>
inline Two<V> add_exponent(Two<V> power, Two<V> integer) {
  return {add_exponent(power.a, integer.a), add_exponent(power.b, integer.b)};
}
#endif

// Memory in half precision.
template <typename T>
inline void load_half(const T* from, Native& result) {
  at::vec::load_to_float<T>(from, result);
}

template <typename T, typename V>
inline void load_half(const T* from, Two<V>& result) {
  load_half(from, result.a), load_half(from + V::size(), result.b);
}

template <typename T>
inline void store_half(T* to, Native value) {
  at::vec::convert_from_float<T>(value, value).store(to, Native::size());
}

template <typename T, typename V>
inline void store_half(T* to, Two<V> value) {
  store_half(to, value.a), store_half(to + V::size(), value.b);
}

}  // namespace mmv2m
