// The GEMM: rows times a panel of packed weights. The function that follows is
// applied while the results are in registers.

#if defined(MLXRANK_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_GEMM_INL_H_
#undef MLXRANK_CPU_GEMM_INL_H_
#else
#define MLXRANK_CPU_GEMM_INL_H_
#endif

#include "common-inl.h"
#include "profile.h"
#include "small.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

// A Factor type defines how the GEMM reads its factors, and names their type. A step takes
// from each row and each output as many factors as fit into 32 bits.
struct Float32 {
  static constexpr int32_t kType = MLXRANK_FLOAT32;
  static constexpr int kPerStep = 1;

  static int Steps(int k) { return k; }

  // Writes rows of x transposed, in the order that blocks read them: for each step
  // the rows. out has room for width of them.
  static HWY_INLINE void Transpose(const float *x, size_t stride, int rows, int width, int k,
                                   float *out) {
    const int done = rows >= 4 ? TransposeFours(x, stride, rows, width, k, out) : 0;
    for (int p = done; p < k; p++) {
      for (int r = 0; r < rows; r++) {
        out[static_cast<size_t>(p) * width + r] = x[r * stride + p];
      }
    }
  }

  // Brings a row of k numbers into the form of factors, where it is.
  static HWY_INLINE void Narrow(float *, int) {}

  static HWY_INLINE Vec MulAdd(Vec a, Vec b, Vec sum) { return hn::MulAdd(a, b, sum); }
};

// MLXRANK_EMULATE_BFLOAT16 is for tests: every target multiplies bfloat16, as float32.
#if MLXRANK_CPU_BFLOAT16 || MLXRANK_EMULATE_BFLOAT16
// Factors rounded to the nearest bfloat16, two per step: the first of a pair is in the low
// half of its 32 bits. Sums are float32.
struct BFloat16 {
  using Bits = hn::RebindToUnsigned<Tag>;
  using BitVec = hn::Vec<Bits>;

  static constexpr int32_t kType = MLXRANK_BFLOAT16;
  static constexpr int kPerStep = 2;

  static int Steps(int k) { return (k + 1) / 2; }

  static HWY_INLINE void Transpose(const float *x, size_t stride, int rows, int width, int k,
                                   float *out) {
    const int steps = Steps(k);
    float *pairs = Scratch<8>(static_cast<size_t>(rows) * steps);
    for (int r = 0; r < rows; r++) {
      ToPairs(x + r * stride, k, pairs + static_cast<size_t>(r) * steps);
    }
    Float32::Transpose(pairs, steps, rows, width, steps, out);
  }

  static HWY_INLINE void Narrow(float *row, int k) { ToPairs(row, k, row); }

  // Writes the k numbers of a row as pairs, where it is or elsewhere. A last number alone
  // is paired with zero.
  static HWY_INLINE void ToPairs(const float *row, int k, float *out) {
    int at = 0;
#if HWY_TARGET != HWY_SCALAR
    const Bits d;
    const hn::Repartition<uint64_t, Bits> wide;
    // Each 64 bits hold two numbers, and then in their low half a pair.
    auto pairs = [&](const float *from) {
      const auto two = hn::BitCast(wide, Rounded(hn::LoadU(Tag(), from)));
      const auto first = hn::And(two, hn::Set(wide, 0xffffffff));
      const auto second = hn::And(two, hn::Set(wide, 0xffff000000000000));
      return hn::BitCast(d, hn::Or(hn::ShiftRight<16>(first), hn::ShiftRight<32>(second)));
    };
    for (; 2 * (at + kLanes) <= k; at += kLanes) {
      const BitVec low = pairs(row + 2 * at), high = pairs(row + 2 * at + kLanes);
      hn::StoreU(hn::BitCast(Tag(), hn::ConcatEven(d, high, low)), Tag(), out + at);
    }
#endif
    for (; 2 * at < k; at++) {
      const uint32_t second = 2 * at + 1 < k ? Rounded(row[2 * at + 1]) : 0;
      const uint32_t pair = Rounded(row[2 * at]) >> 16 | (second & 0xffff0000);
      std::memcpy(out + at, &pair, sizeof pair);
    }
  }

  // Returns pairs of the numbers of two vectors.
  static HWY_INLINE Vec Zip(Vec first, Vec second) {
    const BitVec high = hn::And(Rounded(second), hn::Set(Bits(), 0xffff0000));
    return hn::BitCast(Tag(), hn::Or(hn::ShiftRight<16>(Rounded(first)), high));
  }

#if MLXRANK_EMULATE_BFLOAT16
  static HWY_INLINE Vec MulAdd(Vec a, Vec b, Vec sum) {
    const Bits d;
    auto first = [&](Vec v) { return hn::BitCast(Tag(), hn::ShiftLeft<16>(hn::BitCast(d, v))); };
    auto second = [&](Vec v) {
      return hn::BitCast(Tag(), hn::And(hn::BitCast(d, v), hn::Set(d, 0xffff0000)));
    };
    return hn::MulAdd(second(a), second(b), hn::MulAdd(first(a), first(b), sum));
  }
#else
  static HWY_INLINE Vec MulAdd(Vec a, Vec b, Vec sum) {
    return Vec{_mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw),
                                reinterpret_cast<__m512bh>(b.raw))};
  }
#endif

 private:
  // Rounds to the nearest, ties to even. The upper 16 bits are the bfloat16.
  static uint32_t Rounded(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits + 0x7fff + (bits >> 16 & 1);
  }

  static HWY_INLINE BitVec Rounded(Vec x) {
    const Bits d;
    const BitVec bits = hn::BitCast(d, x);
    const BitVec odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
    return hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fff)));
  }
};
#endif

// Steps after which a partial sum is added to the total: the longer a running
// sum, the more precision it loses.
constexpr int kFold = 384;

// Where a block reads its rows: the number of row r at step p is
// at[r * row + p * step].
struct Rows {
  const float *at;
  size_t row, step;
};

// Computes start + the sum of a[r] * b for a block of rows and one panel,
// b [steps][kPanel]. finish(r, low, high) receives the two vectors of each row.
template <class Factor, int rows, class Finish>
HWY_INLINE void Block(Rows a, const float *HWY_RESTRICT b, int steps, const float *start,
                      const Finish &finish) {
  const Tag d;
  Vec low[rows], high[rows], low_sum[rows], high_sum[rows];
  const Vec low_start = start ? hn::LoadU(d, start) : hn::Zero(d);
  const Vec high_start = start ? hn::LoadU(d, start + kLanes) : hn::Zero(d);
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    low_sum[r] = low_start;
    high_sum[r] = high_start;
  }
  for (int from = 0; from < steps; from += kFold) {
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      low[r] = high[r] = hn::Zero(d);
    }
    for (int p = from; p < std::min(from + kFold, steps); p++) {
      const Vec b_low = hn::LoadU(d, b);
      const Vec b_high = hn::LoadU(d, b + kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < rows; r++) {
        const Vec value = hn::Set(d, a.at[r * a.row]);
        low[r] = Factor::MulAdd(value, b_low, low[r]);
        high[r] = Factor::MulAdd(value, b_high, high[r]);
      }
      a.at += a.step;
      b += kPanel;
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      low_sum[r] = hn::Add(low_sum[r], low[r]);
      high_sum[r] = hn::Add(high_sum[r], high[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    finish(r, low_sum[r], high_sum[r]);
  }
}

// Defined in small-inl.h.
inline void ExpandPanel(const PackedLinear &w, int index, float *out);

// Computes x W^T + bias for the rows of one tile. store(row, column, low, high)
// receives the two vectors of a panel that begins at column.
template <class Factor, class Store>
HWY_INLINE void ComputeTile(const float *x, int rows, const PackedLinear &w, const Store &store) {
  const Timed timed(Phase::matmul, int64_t{2} * rows * w.in * RoundUp(w.out, kPanel));
  const int small_bits = small_format(w.factors).bits;
  count_matmul(MLXRANK_IN_ENCODER, Factor::kType, small_bits > 0 ? MLXRANK_UINT32 : Factor::kType,
               small_bits);
  const int steps = Factor::Steps(w.in);
  float *a = Scratch<0>(static_cast<size_t>(rows) * steps);
  ForBlocks(rows, [&](auto n, int at) {
    Factor::Transpose(x + static_cast<size_t>(at) * w.in, w.in, n, n, w.in,
                      a + static_cast<size_t>(at) * steps);
  });
  const size_t panel_size = static_cast<size_t>(steps + 1) * kPanel;
  float *expanded = small_bits > 0 ? Scratch<7>(panel_size) : nullptr;
  for (int column = 0; column < w.out; column += kPanel) {
    const float *panel = w.packed + column / kPanel * panel_size;
    if (expanded != nullptr) {
      ExpandPanel(w, column / kPanel, expanded);
      panel = expanded;
    }
    ForBlocks(rows, [&](auto n, int at) {
      Block<Factor, n>({a + static_cast<size_t>(at) * steps, 1, n}, panel + kPanel, steps, panel,
                       [&](int r, Vec low, Vec high) { store(at + r, column, low, high); });
    });
  }
}

// Calls f with the kind of factors. Only some targets have bfloat16 kernels;
// has_bfloat16() reports whether this one has.
template <class F>
void WithFactor(Factors factors, const F &f) {
#if MLXRANK_CPU_BFLOAT16 || MLXRANK_EMULATE_BFLOAT16
  if (factors == Factors::bfloat16) {
    return f(BFloat16());
  }
#endif
  (void)factors;
  f(Float32());
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#include "small-inl.h"

#endif
