#include <algorithm>
#include <cmath>

#include "kernels.h"
#include "profile.h"

namespace mlxrank::cpu {

namespace {

// Adds the tokens of a pair, the one at position i with weight(i), and divides by the divisor.
template <class Weight>
void weighted_sum(const float *x, int length, int hidden, const Weight &weight, float divisor,
                  float *y) {
  std::fill_n(y, hidden, 0.0f);
  for (int i = 0; i < length; i++, x += hidden) {
    const float by = weight(i);
    for (int c = 0; c < hidden; c++) {
      y[c] += by * x[c];
    }
  }
  for (int c = 0; c < hidden; c++) {
    y[c] /= divisor;
  }
}

void pool_pair(const float *x, int length, int hidden, Pooling way, float *y) {
  const auto n = static_cast<float>(length);
  auto one = [](int) { return 1.0f; };
  switch (way) {
  case Pooling::cls:
    std::copy_n(x, hidden, y);
    break;
  case Pooling::max:
    std::copy_n(x, hidden, y);
    for (int i = 1; i < length; i++) {
      for (int c = 0; c < hidden; c++) {
        const float v = x[static_cast<size_t>(i) * hidden + c];
        y[c] = v > y[c] || std::isnan(v) ? v : y[c]; // NaN stays NaN
      }
    }
    break;
  case Pooling::mean:
    weighted_sum(x, length, hidden, one, n, y);
    break;
  case Pooling::mean_sqrt:
    weighted_sum(x, length, hidden, one, std::sqrt(n), y);
    break;
  case Pooling::weighted_mean:
    weighted_sum(
        x, length, hidden, [](int i) { return static_cast<float>(i + 1); }, n * (n + 1) / 2, y);
    break;
  case Pooling::last:
    std::copy_n(x + static_cast<size_t>(length - 1) * hidden, hidden, y);
    break;
  }
}

} // namespace

void pool(const float *x, const int32_t *lengths, int pairs, int hidden, Pooling way, float *y) {
  const Timed timed(Phase::copies);
  for (int pair = 0; pair < pairs; pair++) {
    pool_pair(x, lengths[pair], hidden, way, y);
    x += static_cast<size_t>(lengths[pair]) * hidden;
    y += hidden;
  }
}

} // namespace mlxrank::cpu
