// Small weights: numbers of 8 or 4 bits, of which a group in a row shares a scale and a
// bias. A weight is scale * number + bias. They stay small in memory: kernels expand them
// to float32, one panel or one row at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace mlxrank::cpu {

struct SmallFormat {
  int bits = 0, group = 0; // bits are 0 for other formats
};

constexpr SmallFormat small_format(Factors factors) {
  switch (factors) {
  case Factors::small8_32:
    return {8, 32};
  case Factors::small8_64:
    return {8, 64};
  case Factors::small4_32:
    return {4, 32};
  case Factors::small4_64:
    return {4, 64};
  default:
    return {};
  }
}

// Returns the factors of a format that is 8 or 4 bits in groups of 32 or 64.
constexpr Factors small_factors(SmallFormat f) {
  if (f.bits == 8) {
    return f.group == 32 ? Factors::small8_32 : Factors::small8_64;
  }
  return f.group == 32 ? Factors::small4_32 : Factors::small4_64;
}

// A matrix of small weights as MLX has it: the first number of a row is in the lowest bits.
// Its columns are a multiple of the group. Null numbers mean no matrix.
struct SmallMatrix {
  const uint8_t *numbers; // [rows, columns * bits / 8]
  const float *scales, *biases; // [rows, columns / group]
  SmallFormat format;
};

// Writes a row of so many columns to out.
void expand_row(const SmallMatrix &m, int64_t row, int columns, float *out);

// Returns the floats of a panel of packed small weights: the biases of its width outputs,
// then for each group the scales and biases of the outputs, and the numbers: of 8 bits a
// byte of each output for each input, of 4 bits for each two inputs, the first in the low
// bits.
constexpr size_t small_panel(SmallFormat f, int in, int width) {
  const size_t groups = static_cast<size_t>(in) / f.group;
  return width * (1 + groups * (2 + static_cast<size_t>(f.group) * f.bits / 32));
}

// Returns the floats of a packed linear layer, and packs one for kernels with Factors
// small_factors(weight.format).
size_t small_packed_size(int out, int in, SmallFormat format);
void pack_small(const SmallMatrix &weight, const float *bias, int out, int in, float *packed);

} // namespace mlxrank::cpu
