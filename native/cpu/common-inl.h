// Vectors, blocks of rows and arithmetic that the kernels of kernels.cpp and of int8.cpp share.
// Each file compiles it in its own MLXRANK_NAMESPACE. With MLXRANK_FUSE 1 a product and a sum may
// be rounded once; with 0 both are rounded, on every instruction set.

#if defined(MLXRANK_CPU_COMMON_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_COMMON_INL_H_
#undef MLXRANK_CPU_COMMON_INL_H_
#else
#define MLXRANK_CPU_COMMON_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "hwy/highway.h"

// Multiplying bfloat16 numbers needs an extension of AVX-512 that Highway 1.0 has
// no target for, so it is added to Highway's target AVX3. The compiler cannot use
// the extension for operations on other types. Only BFloat16 uses it, and that
// runs only on processors that have it.
#undef MLXRANK_CPU_BFLOAT16
#undef MLXRANK_BEFORE_NAMESPACE
#if MLXRANK_FUSE && HWY_TARGET == HWY_AVX3 && HWY_COMPILER_GCC_ACTUAL && HWY_ARCH_X86_64
#define MLXRANK_CPU_BFLOAT16 1
#define MLXRANK_BEFORE_NAMESPACE()                                                                 \
  HWY_BEFORE_NAMESPACE();                                                                          \
  _Pragma("GCC target(\"avx512bf16\")") static_assert(true)
#else
#define MLXRANK_CPU_BFLOAT16 0
#define MLXRANK_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#endif

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using IntTag = hn::RebindToSigned<Tag>;
using Vec = hn::Vec<Tag>;
using Ints = hn::Vec<IntTag>;

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

inline int CeilDiv(int n, int by) { return (n + by - 1) / by; }

inline int RoundUp(int n, int to) { return CeilDiv(n, to) * to; }

// Returns this thread's buffer of count T, aligned to 64 bytes and kept for the next call. A
// few hundred KB per thread, and some MB once a pair has thousands of tokens.
template <int which, class T = float>
T *Scratch(size_t count) {
  constexpr size_t align = 64;
  static thread_local std::vector<char> buffer;
  if (buffer.size() < count * sizeof(T) + align) {
    buffer.resize(count * sizeof(T) + align);
  }
  const auto at = reinterpret_cast<uintptr_t>(buffer.data());
  return reinterpret_cast<T *>((at + align - 1) / align * align);
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

// Calls whole(at) for each whole vector of a row of n, and rest(at) for each
// number after the last one.
template <class Whole, class Rest>
HWY_INLINE void ForRow(int n, const Whole &whole, const Rest &rest) {
  int at = 0;
  for (; at + kLanes <= n; at += kLanes) {
    whole(at);
  }
  for (; at < n; at++) {
    rest(at);
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

// Transposes squares of four rows and four columns of 32 bits in registers. Returns how many
// columns it wrote. The last square of rows overlaps the one before it.
#if HWY_TARGET == HWY_SCALAR
template <class T>
int TransposeFours(const T *, size_t, int, int, int, T *) {
  return 0;
}
#else
template <class T>
int TransposeFours(const T *x, size_t stride, int rows, int width, int k, T *out) {
  const hn::FixedTag<T, 4> d;
  int p = 0;
  for (; p + 4 <= k; p += 4, x += 4) {
    for (int r = 0; r < rows; r += 4) {
      const int at = std::min(r, rows - 4);
      const T *from = x + at * stride;
      const auto a = hn::LoadU(d, from), b = hn::LoadU(d, from + stride);
      const auto c = hn::LoadU(d, from + 2 * stride), e = hn::LoadU(d, from + 3 * stride);
      const auto low_ab = hn::InterleaveLower(d, a, b), high_ab = hn::InterleaveUpper(d, a, b);
      const auto low_ce = hn::InterleaveLower(d, c, e), high_ce = hn::InterleaveUpper(d, c, e);
      T *to = out + static_cast<size_t>(p) * width + at;
      hn::StoreU(hn::ConcatLowerLower(d, low_ce, low_ab), d, to);
      hn::StoreU(hn::ConcatUpperUpper(d, low_ce, low_ab), d, to + width);
      hn::StoreU(hn::ConcatLowerLower(d, high_ce, high_ab), d, to + 2 * width);
      hn::StoreU(hn::ConcatUpperUpper(d, high_ce, high_ab), d, to + 3 * width);
    }
  }
  return p;
}
#endif

// Returns a b + c.
HWY_INLINE Vec MultiplyAdd(Vec a, Vec b, Vec c) {
#if MLXRANK_FUSE
  return hn::MulAdd(a, b, c);
#else
  return hn::Add(hn::Mul(a, b), c);
#endif
}

// Returns the larger number; NaN if b is NaN.
HWY_INLINE Vec MaxOrNan(Vec a, Vec b) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(b, a), a, b); // Max returns a number if there is one
#else
  return hn::Max(a, b); // in this order, for x86
#endif
}

// Returns the sum of c[n] t^n.
template <int n>
HWY_INLINE Vec Polynomial(Vec t, const float (&c)[n]) {
  const Tag d;
  Vec sum = hn::Set(d, c[n - 1]);
#pragma GCC unroll 8
  for (int i = n - 2; i >= 0; i--) {
    sum = MultiplyAdd(sum, t, hn::Set(d, c[i]));
  }
  return sum;
}

// Adding it to a number of at most 2^22 rounds the number to the nearest integer, ties to
// even, and the integer is in the lowest bits of the sum.
constexpr float kMagic = 12582912; // 1.5 * 2^23

// Returns 2^y for y from -126 to 126, from the coefficients of 2^y around 0.
template <int n>
HWY_INLINE Vec Power(Vec y, const float (&c)[n]) {
  const Tag d;
  const IntTag di;
  const Vec magic = hn::Set(d, kMagic), sum = hn::Add(y, magic);
  const Vec power = Polynomial(hn::Sub(y, hn::Sub(sum, magic)), c);
  return hn::BitCast(d, hn::Add(hn::BitCast(di, power), hn::ShiftLeft<23>(hn::BitCast(di, sum))));
}

// One head of one pair. Keys and values are [length] rows of size, queries [queries]
// rows of size, of the tokens from the pair's first on. A token attends to reach
// tokens on each side.
struct Head {
  const float *query, *key, *value;
  size_t query_stride, key_stride, value_stride;
  int queries, length, size, reach;
  float *out;
  size_t out_stride;
};

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
