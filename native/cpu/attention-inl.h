// Attention within each pair, a head at a time.

#if defined(MLXRANK_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_ATTENTION_INL_H_
#undef MLXRANK_CPU_ATTENTION_INL_H_
#else
#define MLXRANK_CPU_ATTENTION_INL_H_
#endif

#include "elementwise-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace mlxrank::cpu {
namespace HWY_NAMESPACE {

inline int RoundUp(int n) { return (n + kPanel - 1) / kPanel * kPanel; }

// One head of one pair. Keys and values are [length] rows of size with stride,
// queries [queries] rows of size with query_stride.
struct Head {
  const float *query, *key, *value;
  size_t query_stride, stride;
  int queries, length, size;
  float *out;
  size_t out_stride;
};

// Writes the keys, scaled, as panels of kPanel tokens, [size][kPanel] each, with
// zeros after the last token.
inline void PackKeys(const Head &h, float scale, float *out) {
  for (int token = 0; token < h.length; token += kPanel) {
    const int tokens = std::min(kPanel, h.length - token);
    for (int c = 0; c < h.size; c++) {
      for (int t = 0; t < kPanel; t++) {
        *out++ = t < tokens ? scale * h.key[(token + t) * h.stride + c] : 0;
      }
    }
  }
}

// Writes the values as panels of kPanel columns, [length][kPanel] each, with zeros
// after the last column.
inline void PackValues(const Head &h, float *out) {
  for (int column = 0; column < h.size; column += kPanel) {
    const int columns = std::min(kPanel, h.size - column);
    for (int t = 0; t < h.length; t++) {
      std::memcpy(out, h.value + t * h.stride + column, columns * sizeof(float));
      std::fill(out + columns, out + kPanel, 0.0f);
      out += kPanel;
    }
  }
}

// Sets row [n] to e^(row - max) and returns its sum. Overwrites the numbers after
// n up to a whole vector.
HWY_INLINE float ExpRow(float *row, int n) {
  const Tag d;
  float most = row[0];
  Vec mosts = hn::Set(d, most);
  ForRow(
      n, [&](int i) { mosts = hn::Max(mosts, hn::LoadU(d, row + i)); },
      [&](int i) { most = std::max(most, row[i]); });
  mosts = hn::Set(d, std::max(most, hn::GetLane(hn::MaxOfLanes(d, mosts))));
  Vec sums = hn::Zero(d);
  for (int i = 0; i < n; i += kLanes) {
    Vec e = hn::Exp(d, hn::Sub(hn::LoadU(d, row + i), mosts));
    if (i + kLanes > n) {
      e = hn::IfThenElseZero(hn::FirstN(d, n - i), e);
    }
    sums = hn::Add(sums, e);
    hn::StoreU(e, d, row + i);
  }
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

inline void AttendHead(const Head &h, float scale) {
  const int length = RoundUp(h.length), size = RoundUp(h.size);
  float *keys = Scratch<1>(static_cast<size_t>(length) * h.size);
  float *values = Scratch<2>(static_cast<size_t>(h.length) * size);
  float *scores = Scratch<3>(static_cast<size_t>(kRows) * length);
  float *a = Scratch<4>(static_cast<size_t>(kRows) * std::max(h.size, h.length));
  PackKeys(h, scale, keys);
  PackValues(h, values);
  ForBlocks(h.queries, [&](auto n, int at) {
    constexpr int rows = decltype(n)::value;
    Float32::Transpose(h.query + at * h.query_stride, h.query_stride, rows, rows, h.size, a);
    for (int token = 0; token < h.length; token += kPanel) {
      Block<Float32, rows>(a, keys + static_cast<size_t>(token) * h.size, h.size, nullptr,
                           [&](int r, Vec low, Vec high) {
                             StorePart(low, high, kPanel, scores + r * length + token);
                           });
    }
    float inverse[rows];
    for (int r = 0; r < rows; r++) {
      inverse[r] = 1.0f / ExpRow(scores + r * length, h.length);
    }
    Float32::Transpose(scores, length, rows, rows, h.length, a);
    for (int column = 0; column < h.size; column += kPanel) {
      Block<Float32, rows>(a, values + static_cast<size_t>(column) * h.length, h.length, nullptr,
                           [&](int r, Vec low, Vec high) {
                             const Vec by = hn::Set(Tag(), inverse[r]);
                             StorePart(hn::Mul(low, by), hn::Mul(high, by), h.size - column,
                                       h.out + (at + r) * h.out_stride + column);
                           });
    }
  });
}

} // namespace HWY_NAMESPACE
} // namespace mlxrank::cpu
HWY_AFTER_NAMESPACE();

#endif
