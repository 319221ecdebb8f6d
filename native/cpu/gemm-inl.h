// The GEMM: rows times a panel of packed weights. The function that follows is
// applied while the results are in registers.

#if defined(MLXRANK_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_GEMM_INL_H_
#undef MLXRANK_CPU_GEMM_INL_H_
#else
#define MLXRANK_CPU_GEMM_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <vector>

#include "hwy/highway.h"
#include "profile.h"

// Multiplying bfloat16 numbers needs an extension of AVX-512 that Highway 1.0 has
// no target for, so it is added to Highway's target AVX3. The compiler cannot use
// the extension for operations on other types. Only BFloat16 uses it, and that
// runs only on processors that have it.
#undef MLXRANK_CPU_BFLOAT16
#undef MLXRANK_BEFORE_NAMESPACE
#if HWY_TARGET == HWY_AVX3 && HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86_64
#define MLXRANK_CPU_BFLOAT16 1
#define MLXRANK_BEFORE_NAMESPACE()                                                                 \
  HWY_BEFORE_NAMESPACE();                                                                          \
  _Pragma("GCC target(\"avx512bf16\")") static_assert(true)
#else
#define MLXRANK_CPU_BFLOAT16 0
#define MLXRANK_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#endif

MLXRANK_BEFORE_NAMESPACE();
namespace mlxrank::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vec = hn::Vec<Tag>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(Tag()));
constexpr int kPanel = 2 * kLanes;

// Rows of a block: as many as fit, with two vectors of weights, into the
// registers. AVX-512 and arm64 have 32 registers, other targets 16.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

// Rows of a tile: blocks that share one pass over the weights.
constexpr int kTile = 8 * kRows;

// Returns this thread's buffer, kept for the next call. At most a few hundred KB
// per thread.
template <int which>
float *Scratch(size_t floats) {
  static thread_local std::vector<float> buffer;
  if (buffer.size() < floats) {
    buffer.resize(floats);
  }
  return buffer.data();
}

// A Factor type defines how the GEMM reads its factors. A step takes from each row
// and each output as many factors as fit into 32 bits.
struct Float32 {
  static int Steps(int k) { return k; }

  // Writes rows of x transposed, in the order that blocks read them: for each step
  // the rows. out has room for width of them.
  static HWY_INLINE void Transpose(const float *x, size_t stride, int rows, int width, int k,
                                   float *out) {
    for (int p = 0; p < k; p++) {
      for (int r = 0; r < rows; r++) {
        out[static_cast<size_t>(p) * width + r] = x[r * stride + p];
      }
    }
  }

  static HWY_INLINE Vec MulAdd(Vec a, Vec b, Vec sum) { return hn::MulAdd(a, b, sum); }
};

#if MLXRANK_CPU_BFLOAT16
// Factors rounded to the nearest bfloat16, two per step. Sums are float32.
struct BFloat16 {
  static int Steps(int k) { return (k + 1) / 2; }

  static HWY_INLINE void Transpose(const float *x, size_t stride, int rows, int width, int k,
                                   float *out) {
    const int steps = Steps(k);
    HWY_ALIGN uint32_t pairs[16];
    for (int r = 0; r < rows; r++) {
      const float *row = x + r * stride;
      float *to = out + r;
      for (int p = 0; p < k; p += 32, row += 32) {
        const __m512 low = _mm512_maskz_loadu_ps(Mask(k - p), row);
        const __m512 high = _mm512_maskz_loadu_ps(Mask(k - p - 16), row + 16);
        _mm512_store_si512(pairs, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
        const int n = std::min(16, steps - p / 2);
        for (int i = 0; i < n; i++, to += width) {
          std::memcpy(to, pairs + i, sizeof(float));
        }
      }
    }
  }

  static HWY_INLINE Vec MulAdd(Vec a, Vec b, Vec sum) {
    return Vec{_mm512_dpbf16_ps(sum.raw, reinterpret_cast<__m512bh>(a.raw),
                                reinterpret_cast<__m512bh>(b.raw))};
  }

 private:
  static __mmask16 Mask(int n) {
    return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
  }
};
#endif

// Steps after which a partial sum is added to the total: the longer a running
// sum, the more precision it loses.
constexpr int kFold = 384;

// Computes start + the sum of a[r] * b for a block of rows and one panel:
// a [steps][rows], b [steps][kPanel]. finish(r, low, high) receives the two
// vectors of each row.
template <class Factor, int rows, class Finish>
HWY_INLINE void Block(const float *HWY_RESTRICT a, const float *HWY_RESTRICT b, int steps,
                      const float *start, const Finish &finish) {
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
        const Vec value = hn::Set(d, a[r]);
        low[r] = Factor::MulAdd(value, b_low, low[r]);
        high[r] = Factor::MulAdd(value, b_high, high[r]);
      }
      a += rows;
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

// Calls block(integral constant, first row) for blocks that cover the rows,
// largest first.
template <class Call>
HWY_INLINE void ForBlocks(int rows, const Call &block) {
  int at = 0;
  for (; rows - at >= kRows; at += kRows) {
    block(std::integral_constant<int, kRows>(), at);
  }
  if (kRows > 8 && rows - at >= 8) {
    block(std::integral_constant<int, 8>(), at);
    at += 8;
  }
  if (rows - at >= 4) {
    block(std::integral_constant<int, 4>(), at);
    at += 4;
  }
  if (rows - at >= 2) {
    block(std::integral_constant<int, 2>(), at);
    at += 2;
  }
  if (rows - at >= 1) {
    block(std::integral_constant<int, 1>(), at);
  }
}

// Stores the part of a panel's row that is within the columns.
HWY_INLINE void StorePart(Vec low, Vec high, int columns, float *y) {
  const Tag d;
  if (columns >= kPanel) {
    hn::StoreU(low, d, y);
    hn::StoreU(high, d, y + kLanes);
    return;
  }
  HWY_ALIGN float row[kPanel];
  hn::Store(low, d, row);
  hn::Store(high, d, row + kLanes);
  std::memcpy(y, row, static_cast<size_t>(columns) * sizeof(float));
}

// y [rows, out] = act(x W^T + bias) for the rows of one tile.
template <class Factor, class Act>
void LinearTile(const float *x, int rows, const PackedLinear &w, const Act &act, float *y) {
  const int columns = (w.out + kPanel - 1) / kPanel * kPanel;
  const Timed timed(Phase::matmul, int64_t{2} * rows * w.in * columns);
  const int steps = Factor::Steps(w.in);
  float *a = Scratch<0>(static_cast<size_t>(rows) * steps);
  ForBlocks(rows, [&](auto n, int at) {
    Factor::Transpose(x + static_cast<size_t>(at) * w.in, w.in, n, n, w.in,
                      a + static_cast<size_t>(at) * steps);
  });
  const size_t panel_size = static_cast<size_t>(steps + 1) * kPanel;
  for (int column = 0; column < w.out; column += kPanel) {
    const float *panel = w.packed + column / kPanel * panel_size;
    const int columns = w.out - column;
    ForBlocks(rows, [&](auto n, int at) {
      Block<Factor, n>(a + static_cast<size_t>(at) * steps, panel + kPanel, steps, panel,
                       [&](int r, Vec low, Vec high) {
                         StorePart(act(low), act(high), columns,
                                   y + static_cast<size_t>(at + r) * w.out + column);
                       });
    });
  }
}

// Calls f with the kind of factors. Only some targets have bfloat16 kernels;
// has_bfloat16() reports whether this one has.
template <class F>
void WithFactor(Factors factors, const F &f) {
#if MLXRANK_CPU_BFLOAT16
  if (factors == Factors::bfloat16) {
    return f(BFloat16());
  }
#endif
  (void)factors;
  f(Float32());
}

// Calls tile(first row, rows) for tiles that cover the rows.
template <class Call>
void ForTiles(int rows, const Call &tile) {
  for (int at = 0; at < rows; at += kTile) {
    tile(at, std::min(kTile, rows - at));
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlxrank::cpu
HWY_AFTER_NAMESPACE();

#endif
