// A map times the SiLU of another.
#pragma once

#include "rows.h"

namespace mmv2m {

template <typename T>
void gate_rows(const Rows<const T>& x, const Rows<const T>& z, const Rows<T>& y) {
  for_chunks(x.count, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t v = 0; v < x.vectors; ++v) y.write(row, v, x.read(row, v) * silu(z.read(row, v)));
  });
}

// Gradients of both; and `y` again, if there is one to write to.
template <typename T>
void gate_rows_backward(const Rows<const T>& grad_y, const Rows<const T>& x, const Rows<const T>& z,
                        const Rows<T>& grad_x, const Rows<T>& grad_z, const Rows<T>& y) {
  for_chunks(x.count, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t v = 0; v < x.vectors; ++v) {
        const Vec g = grad_y.read(row, v), u = x.read(row, v), gate = z.read(row, v);
        const Vec s = sigmoid(gate), opens = gate * s;
        grad_x.write(row, v, g * opens);
        grad_z.write(row, v, g * u * fmadd(opens, Vec(1.f) - s, s));
        if (y) y.write(row, v, u * opens);
      }
  });
}

}  // namespace mmv2m
