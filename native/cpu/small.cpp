#include "small.h"

#include <algorithm>
#include <cstring>

namespace mlxrank::cpu {

namespace {

// Returns number i of a row.
uint8_t number(const uint8_t *row, int i, int bits) {
  return bits == 8 ? row[i] : static_cast<uint8_t>(row[i / 2] >> (4 * (i % 2)) & 15);
}

} // namespace

void expand_row(const SmallMatrix &m, int64_t row, int columns, float *out) {
  const SmallFormat f = m.format;
  const uint8_t *numbers = m.numbers + row * columns * f.bits / 8;
  const int groups = columns / f.group;
  for (int g = 0; g < groups; g++) {
    const float scale = m.scales[row * groups + g], bias = m.biases[row * groups + g];
    for (int i = g * f.group; i < (g + 1) * f.group; i++) {
      out[i] = scale * static_cast<float>(number(numbers, i, f.bits)) + bias;
    }
  }
}

size_t small_packed_size(int out, int in, SmallFormat format) {
  const int width = panel_width(Factors::float32);
  return static_cast<size_t>((out + width - 1) / width) * small_panel(format, in, width);
}

void pack_small(const SmallMatrix &weight, const float *bias, int out, int in, float *packed) {
  const SmallFormat f = weight.format;
  const int width = panel_width(Factors::float32), groups = in / f.group;
  std::memset(packed, 0, small_packed_size(out, in, f) * sizeof(float));
  for (int first = 0; first < out; first += width) {
    const int columns = std::min(width, out - first);
    std::copy_n(bias + first, columns, packed);
    packed += width;
    for (int g = 0; g < groups; g++) {
      auto *numbers = reinterpret_cast<uint8_t *>(packed + 2 * width);
      for (int c = 0; c < columns; c++) {
        const int64_t row = first + c;
        packed[c] = weight.scales[row * groups + g];
        packed[width + c] = weight.biases[row * groups + g];
        const uint8_t *from = weight.numbers + row * in * f.bits / 8;
        for (int i = 0; i < f.group; i++) {
          const uint8_t q = number(from, g * f.group + i, f.bits);
          if (f.bits == 8) {
            numbers[i * width + c] = q;
          } else {
            numbers[i / 2 * width + c] |= static_cast<uint8_t>(q << (4 * (i % 2)));
          }
        }
      }
      packed += width * (2 + f.group * f.bits / 32);
    }
  }
}

} // namespace mlxrank::cpu
