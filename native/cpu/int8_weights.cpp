#include <algorithm>
#include <cmath>

#include "int8.h"

namespace mlxrank::cpu::int8 {

int rotation_block(int n) { return std::min(n & -n, 128); }

void rotate(float *row, int n) {
  for (int stride = rotation_block(n) / 2; stride >= 1; stride /= 2) {
    for (int at = 0; at < n; at += 2 * stride) {
      for (int i = at; i < at + stride; i++) {
        const float a = row[i], b = row[i + stride];
        row[i] = a + b;
        row[i + stride] = a - b;
      }
    }
  }
}

float quantize_weights(const float *weight, int n, int8_t *quantized) {
  // Rounding adds at most 1 to the sum of two.
  constexpr float most_of_pair = kPairSteps - 1;
  float most = 0;
  for (int i = 0; i < n; i++) {
    most = std::max(most, std::abs(weight[i]));
    if (i % 2 == 1 && (weight[i] > 0) == (weight[i - 1] > 0)) {
      most = std::max(most, std::abs(weight[i] + weight[i - 1]) * (127 / most_of_pair));
    }
  }
  if (most < 1e-30f) { // all but zero; the inverse might not be finite
    std::fill_n(quantized, n, 0);
    return 0;
  }
  const float inverse = 127 / most;
  for (int i = 0; i < n; i++) {
    quantized[i] = static_cast<int8_t>(std::lrint(weight[i] * inverse));
  }
  return most / 127;
}

} // namespace mlxrank::cpu::int8
