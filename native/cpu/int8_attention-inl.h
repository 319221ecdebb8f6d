// Attention within each pair, a head at a time, with factors of 16 bits: AVX2 multiplies
// twice as many of them as of float32, and sums of integers are the same on every
// instruction set.

#if defined(MLXRANK_CPU_INT8_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_INT8_ATTENTION_INL_H_
#undef MLXRANK_CPU_INT8_ATTENTION_INL_H_
#else
#define MLXRANK_CPU_INT8_ATTENTION_INL_H_
#endif

#include "int8_linear-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

// Queries, keys and values become integers up to kHeadSteps, and e^(score - max) up to
// kExpSteps. Sums of kFold products of the latter two fit into 32 bits.
constexpr int kHeadSteps = 2047, kExpSteps = 4095, kFold = 256;
static_assert(int64_t{kHeadSteps} * kExpSteps * kFold <= INT32_MAX);

// Quantises row [n] to steps with one scale, which it returns, and fills up the last word.
HWY_INLINE float QuantizeHead(const float *row, int n, float steps, int16_t *out) {
  const Tag d;
  const hn::Rebind<int16_t, IntTag> d16;
  const Scale s(LargestOfRow(row, n), steps);
  ForRow(
      n,
      [&](int i) {
        const Ints q = Nearest(hn::Mul(hn::LoadU(d, row + i), s.inverse));
        hn::StoreU(hn::DemoteTo(d16, q), d16, out + i);
      },
      [&](int i) { out[i] = static_cast<int16_t>(Nearest(row[i] * hn::GetLane(s.inverse))); });
  if (n % 2 != 0) {
    out[n] = 0;
  }
  return hn::GetLane(s.scale);
}

// Writes rows [kPanel][words] to a panel [words][kPanel].
HWY_INLINE void TransposeWords(const int32_t *rows, int words, int32_t *panel) {
  int word = TransposeFours(rows, words, kPanel, kPanel, words, panel);
  for (; word < words; word++) {
    for (int t = 0; t < kPanel; t++) {
      panel[word * kPanel + t] = Word(rows + static_cast<size_t>(t) * words + word);
    }
  }
}

// Writes the keys as panels of kPanel tokens, and their scales.
inline void PackKeys(const Head &h, float steps, int words, int32_t *panels, float *scales) {
  auto *rows = Scratch<4, int32_t>(static_cast<size_t>(kPanel) * words);
  for (int token = 0; token < h.length; token += kPanel) {
    const int tokens = std::min(kPanel, h.length - token);
    for (int t = 0; t < tokens; t++) {
      scales[token + t] =
          QuantizeHead(h.key + (token + t) * h.key_stride, h.size, steps,
                       reinterpret_cast<int16_t *>(rows + static_cast<size_t>(t) * words));
    }
    std::fill(scales + token + tokens, scales + token + kPanel, 0.0f);
    std::fill(rows + static_cast<size_t>(tokens) * words,
              rows + static_cast<size_t>(kPanel) * words, 0);
    TransposeWords(rows, words, panels);
    panels += static_cast<size_t>(words) * kPanel;
  }
}

// Writes the values as panels of kPanel columns, a word for each column of two tokens, with
// zeros after the last. Each column has a scale.
inline void PackValues(const Head &h, int pairs, int32_t *panels, float *scales) {
  const Tag d;
  const IntTag di;
  const Ints magnitude = hn::Set(di, 0x7fffffff), low_half = hn::Set(di, 0xffff);
  for (int column = 0; column < h.size; column += kLanes) {
    const int columns = std::min(kLanes, h.size - column);
    HWY_ALIGN float part[kLanes] = {};
    auto load = [&](int t) {
      const float *from = h.value + t * h.value_stride + column;
      if (columns == kLanes) {
        return hn::LoadU(d, from);
      }
      std::memcpy(part, from, columns * sizeof(float));
      return hn::Load(d, part);
    };
    Ints most = hn::Zero(di);
    for (int t = 0; t < h.length; t++) {
      most = hn::Max(most, hn::And(hn::BitCast(di, load(t)), magnitude));
    }
    const Scale s(hn::BitCast(d, most), kHeadSteps);
    hn::Store(s.scale, d, scales + column);
    auto quantized = [&](int t) {
      return t < h.length ? Nearest(hn::Mul(load(t), s.inverse)) : hn::Zero(di);
    };
    int32_t *to = panels + static_cast<size_t>(column / kPanel) * pairs * kPanel + column % kPanel;
    for (int pair = 0; pair < pairs; pair++, to += kPanel) {
      hn::Store(hn::Or(hn::And(quantized(2 * pair), low_half),
                       hn::ShiftLeft<16>(quantized(2 * pair + 1))),
                di, to);
    }
  }
}

// Returns 2^x for x of at most 0 as an integer of kExpSteps.
HWY_INLINE Ints ExpSteps(Vec x) {
  const Tag d;
  static constexpr float c[] = {kExpSteps * 0.999999261f, kExpSteps * 0.693121808f,
                                kExpSteps * 0.24024745f, kExpSteps * 0.0559179157f,
                                kExpSteps * 0.00957011894f};
  return Nearest(Power(hn::Max(x, hn::Set(d, -20.0f)), c));
}

// Writes two vectors as numbers of 16 bits.
HWY_INLINE void StoreShorts(Ints a, Ints b, int16_t *out) {
#if HWY_TARGET == HWY_AVX2
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.raw, b.raw), 0xd8);
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), packed);
#else
  const hn::Rebind<int16_t, IntTag> d16;
  hn::StoreU(hn::DemoteTo(d16, a), d16, out);
  hn::StoreU(hn::DemoteTo(d16, b), d16, out + kLanes);
#endif
}

// Writes 2^(row - max) of row [n] in kExpSteps, with zeros up to a whole panel, and returns
// the inverse of the sum; NaN if the max is infinite.
HWY_INLINE float ExpRow(const float *row, int n, int16_t *out) {
  const Tag d;
  const IntTag di;
  float most = row[0];
  Vec mosts = hn::Set(d, most);
  ForRow(
      n, [&](int i) { mosts = hn::Max(mosts, hn::LoadU(d, row + i)); },
      [&](int i) { most = std::max(most, row[i]); });
  mosts = hn::Set(d, std::max(most, hn::GetLane(hn::MaxOfLanes(d, mosts))));
  Ints low_sums = hn::Zero(di), high_sums = low_sums;
  int i = 0;
  auto add = [&](auto low_mask, auto high_mask) {
    const Ints low = low_mask(ExpSteps(hn::Sub(hn::LoadU(d, row + i), mosts)), 0);
    const Ints high = high_mask(ExpSteps(hn::Sub(hn::LoadU(d, row + i + kLanes), mosts)), kLanes);
    low_sums = hn::Add(low_sums, low);
    high_sums = hn::Add(high_sums, high);
    StoreShorts(low, high, out + i);
  };
  auto all = [](Ints e, int) { return e; };
  auto part = [&](Ints e, int at) {
    return hn::IfThenElseZero(hn::FirstN(di, std::max(0, n - i - at)), e);
  };
  for (; i + kPanel <= n; i += kPanel) {
    add(all, all);
  }
  if (i < n) {
    add(part, part);
  }
  const int32_t sum = hn::GetLane(hn::SumOfLanes(di, hn::Add(low_sums, high_sums)));
  return 1 / static_cast<float>(sum) + 0 * hn::GetLane(mosts);
}

inline void Attend(const Head &h, float scale, Factors) {
  count_matmul(MLXRANK_IN_ATTENTION, MLXRANK_INT16, MLXRANK_INT16);
  count_matmul(MLXRANK_IN_ATTENTION, MLXRANK_INT16, MLXRANK_INT16);
  const Tag d;
  const int words = CeilDiv(h.size, 2), size = RoundUp(h.size, kPanel);
  const int length = RoundUp(h.length, kPanel), pairs = length / 2;
  const float to_exponent = scale * 1.44269504f; // of 2
  float steps = kHeadSteps; // so that a sum of size products fits into 32 bits
  while (steps * steps * static_cast<float>(h.size) > 2.1e9f) {
    steps = steps / 2 - 0.5f;
  }
  // The most keys that the queries of a block attend to, in whole panels.
  const int64_t around = int64_t{kRows} + 2 * int64_t{h.reach} + kPanel;
  const int span = RoundUp(static_cast<int>(std::min<int64_t>(h.length, around)), kPanel);
  auto *keys = Scratch<0, int32_t>(static_cast<size_t>(length) * words);
  auto *key_scales = Scratch<1>(length);
  auto *values = Scratch<2, int32_t>(static_cast<size_t>(pairs) * size);
  auto *value_scales = Scratch<3>(size);
  PackKeys(h, steps, words, keys, key_scales);
  PackValues(h, pairs, values, value_scales);
  const float largest_key_scale = hn::GetLane(LargestOfRow(key_scales, h.length));
  auto *queries = Scratch<4, int32_t>(static_cast<size_t>(kRows) * words);
  auto *scores = Scratch<5>(static_cast<size_t>(kRows) * span + 4 * kPanel);
  // The last panel of a row may end behind it: then the next row begins there.
  auto *exps = Scratch<6, int32_t>((static_cast<size_t>(kRows) * span + 4 * kPanel) / 2);
  ForBlocks(h.queries, [&](auto n, int at) {
    constexpr int rows = decltype(n)::value;
    const int first = std::max(0, at - h.reach) / kPanel * kPanel;
    const int last = static_cast<int>(std::min<int64_t>(h.length, int64_t{at} + rows + h.reach));
    Vec query_scales[rows];
    for (int r = 0; r < rows; r++) {
      query_scales[r] =
          hn::Set(d, to_exponent * QuantizeHead(h.query + (at + r) * h.query_stride, h.size, steps,
                                                reinterpret_cast<int16_t *>(
                                                    queries + static_cast<size_t>(r) * words)));
    }
    for (int token = first; token < last; token += kPanel) {
      const Vec low_scale = hn::LoadU(d, key_scales + token),
                high_scale = hn::LoadU(d, key_scales + token + kLanes);
      Block<Pairs, rows>(queries, words, keys + static_cast<size_t>(token) * words, words, nullptr,
                         [&](int r, Ints low, Ints high) {
                           auto score = [&](Ints sum, Vec by) {
                             return hn::Mul(hn::Mul(hn::ConvertTo(d, sum), query_scales[r]), by);
                           };
                           float *to = scores + static_cast<size_t>(r) * span + token - first;
                           hn::StoreU(score(low, low_scale), d, to);
                           hn::StoreU(score(high, high_scale), d, to + kLanes);
                         });
    }
    const int end = RoundUp(last, 2);
    float inverse[rows];
    for (int r = 0; r < rows; r++) {
      const int from = std::max(first, at + r - h.reach) - first;
      const int to =
          static_cast<int>(std::min<int64_t>(last, int64_t{at} + r + h.reach + 1)) - first;
      auto *row = reinterpret_cast<int16_t *>(exps) + static_cast<size_t>(r) * span;
      std::fill(row, row + from, int16_t{0});
      inverse[r] = ExpRow(scores + static_cast<size_t>(r) * span + from, to - from, row + from);
      // NaN if the query or a key is not finite: exps might be finite then.
      inverse[r] += 0 * (hn::GetLane(query_scales[r]) + largest_key_scale);
      std::fill(row + to, row + end - first, int16_t{0});
    }
    for (int column = 0; column < h.size; column += kPanel) {
      const int32_t *panel = values + static_cast<size_t>(column) * pairs;
      Vec low_sums[rows], high_sums[rows];
      for (int r = 0; r < rows; r++) {
        low_sums[r] = high_sums[r] = hn::Zero(d);
      }
      for (int from = first, to; from < end; from = to) {
        to = std::min(from / kFold * kFold + kFold, end);
        Block<Pairs, rows>(exps + (from - first) / 2, span / 2,
                           panel + static_cast<size_t>(from / 2) * kPanel, (to - from) / 2, nullptr,
                           [&](int r, Ints low, Ints high) {
                             low_sums[r] = hn::Add(low_sums[r], hn::ConvertTo(d, low));
                             high_sums[r] = hn::Add(high_sums[r], hn::ConvertTo(d, high));
                           });
      }
      const Vec low_scale = hn::LoadU(d, value_scales + column),
                high_scale = hn::LoadU(d, value_scales + column + kLanes);
      for (int r = 0; r < rows; r++) {
        const Vec by = hn::Set(d, inverse[r]);
        StorePart(hn::Mul(hn::Mul(low_sums[r], by), low_scale),
                  hn::Mul(hn::Mul(high_sums[r], by), high_scale), h.size - column,
                  h.out + (at + r) * h.out_stride + column);
      }
    }
  });
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
