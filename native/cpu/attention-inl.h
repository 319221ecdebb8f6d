// Attention within each pair, a head at a time.

#if defined(MLXRANK_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_ATTENTION_INL_H_
#undef MLXRANK_CPU_ATTENTION_INL_H_
#else
#define MLXRANK_CPU_ATTENTION_INL_H_
#endif

#include "gemm-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

// Writes the keys as panels of kPanel tokens, [steps][kPanel] each, with zeros after the
// last token.
template <class Factor>
void PackKeys(const Head &h, float *out) {
  const size_t panel = static_cast<size_t>(Factor::Steps(h.size)) * kPanel;
  for (int token = 0; token < h.length; token += kPanel, out += panel) {
    const int tokens = std::min(kPanel, h.length - token);
    if (tokens < kPanel) {
      std::fill_n(out, panel, 0.0f);
    }
    Factor::Transpose(h.key + token * h.key_stride, h.key_stride, tokens, kPanel, h.size, out);
  }
}

// Writes the values as panels of kPanel columns, [steps][kPanel] each, with zeros after the
// last column. A step has as many tokens as factors, and zeros after the last token.
template <class Factor>
void PackValues(const Head &h, float *out) {
  const Tag d;
  for (int column = 0; column < h.size; column += kPanel) {
    const int columns = std::min(kPanel, h.size - column);
    HWY_ALIGN float part[2 * kPanel] = {};
    // Returns where the columns of a token begin, or of none.
    auto row = [&](int token, float *copy) -> const float * {
      const float *from = h.value + token * h.value_stride + column;
      if (columns == kPanel && token < h.length) {
        return from;
      }
      std::fill_n(copy, kPanel, 0.0f);
      std::copy_n(from, token < h.length ? columns : 0, copy);
      return copy;
    };
    for (int token = 0; token < h.length; token += Factor::kPerStep, out += kPanel) {
      const float *first = row(token, part);
      for (int c = 0; c < kPanel; c += kLanes) {
        Vec v = hn::LoadU(d, first + c);
        if constexpr (Factor::kPerStep == 2) {
          v = Factor::Zip(v, hn::LoadU(d, row(token + 1, part + kPanel) + c));
        }
        hn::StoreU(v, d, out + c);
      }
    }
  }
}

// Returns 2^x for x of at most about 0, exact to 2e-7 of it, and 2^-126 for less than that.
HWY_INLINE Vec PowerOfTwo(Vec x) {
  // A minimax fit on [-0.5, 0.5].
  static constexpr float c[] = {1.0f,          0.693146967f,   0.240221197f,
                                0.0555071327f, 0.00967554134f, 0.00132764726f};
  return Power(MaxOrNan(hn::Set(Tag(), -126.0f), x), c);
}

// Sets row [n] to 2^(by (row - max)) and returns its sum. Overwrites the numbers after
// n up to a whole vector.
HWY_INLINE float ExpRow(float *row, int n, float by) {
  const Tag d;
  Vec most = hn::Set(d, row[0]);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    most = hn::Max(most, hn::LoadU(d, row + i));
  }
  const auto rest = hn::FirstN(d, n - i);
  if (i < n) {
    most = hn::Max(most, hn::IfThenElse(rest, hn::LoadU(d, row + i), most));
  }
  most = hn::MaxOfLanes(d, most);
  const Vec factor = hn::Set(d, by);
  auto power = [&](int at) {
    return PowerOfTwo(hn::Mul(hn::Sub(hn::LoadU(d, row + at), most), factor));
  };
  Vec sums = hn::Zero(d);
  for (i = 0; i + kLanes <= n; i += kLanes) {
    const Vec e = power(i);
    sums = hn::Add(sums, e);
    hn::StoreU(e, d, row + i);
  }
  if (i < n) {
    const Vec e = hn::IfThenElseZero(rest, power(i));
    sums = hn::Add(sums, e);
    hn::StoreU(e, d, row + i);
  }
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

// Sets row [n] to 2^(by (row - max)) from from to to - 1, which it sums, and to zero
// elsewhere. Overwrites a vector after n.
HWY_INLINE float ExpRange(float *row, int n, int from, int to, float by) {
  std::fill(row, row + from, 0.0f);
  const float sum = ExpRow(row + from, to - from, by);
  std::fill(row + to, row + n, 0.0f);
  return sum;
}

template <class Factor>
void AttendHead(const Head &h, float scale) {
  const int length = RoundUp(h.length, kPanel), size = RoundUp(h.size, kPanel);
  // The most keys that the queries of a block attend to, in whole panels.
  const int64_t around = int64_t{kRows} + 2 * int64_t{h.reach} + kPanel;
  const int span = RoundUp(static_cast<int>(std::min<int64_t>(h.length, around)), kPanel);
  const size_t stride = span + kLanes; // room for the last vector of ExpRange
  const int steps = Factor::Steps(h.size);
  float *keys = Scratch<1>(static_cast<size_t>(length) * steps);
  float *values = Scratch<2>(static_cast<size_t>(Factor::Steps(h.length)) * size);
  float *scores = Scratch<3>(kRows * stride);
  float *queries = Scratch<4>(static_cast<size_t>(kRows) * steps);
  PackKeys<Factor>(h, keys);
  PackValues<Factor>(h, values);
  count_matmul(MLXRANK_IN_ATTENTION, Factor::kType, Factor::kType); // with the keys
  count_matmul(MLXRANK_IN_ATTENTION, Factor::kType, Factor::kType); // with the values
  const float by = scale * 1.44269504088896341f; // log2 e: 2^(by x) is e^(scale x)
  ForBlocks(h.queries, [&](auto n, int at) {
    constexpr int rows = decltype(n)::value;
    const int first = std::max(0, at - h.reach) / kPanel * kPanel;
    const int last = static_cast<int>(std::min<int64_t>(h.length, int64_t{at} + rows + h.reach));
    Factor::Transpose(h.query + at * h.query_stride, h.query_stride, rows, rows, h.size, queries);
    for (int token = first; token < last; token += kPanel) {
      Block<Factor, rows>({queries, 1, rows}, keys + static_cast<size_t>(token) * steps, steps,
                          nullptr, [&](int r, Vec low, Vec high) {
                            StorePart(low, high, kPanel, scores + r * stride + token - first);
                          });
    }
    float inverse[rows];
    for (int r = 0; r < rows; r++) {
      float *row = scores + r * stride;
      const int from = std::max(first, at + r - h.reach);
      const int to = static_cast<int>(std::min<int64_t>(last, int64_t{at} + r + h.reach + 1));
      inverse[r] = 1.0f / ExpRange(row, last - first, from - first, to - first, by);
      Factor::Narrow(row, last - first);
    }
    for (int column = 0; column < h.size; column += kPanel) {
      const float *panel = values + static_cast<size_t>(column) * Factor::Steps(h.length) +
                           static_cast<size_t>(first / Factor::kPerStep) * kPanel;
      Block<Factor, rows>({scores, stride, 1}, panel, Factor::Steps(last - first), nullptr,
                          [&](int r, Vec low, Vec high) {
                            const Vec times = hn::Set(Tag(), inverse[r]);
                            StorePart(hn::Mul(low, times), hn::Mul(high, times), h.size - column,
                                      h.out + (at + r) * h.out_stride + column);
                          });
    }
  });
}

inline void Attend(const Head &h, float scale, Factors factors) {
  WithFactor(factors, [&](auto factor) { AttendHead<decltype(factor)>(h, scale); });
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
