// The matrix product that everything else is made of: rows times a panel of
// packed weights, with what follows applied while the result is in registers.

#if defined(MLXRANK_CPU_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_PRODUCT_INL_H_
#undef MLXRANK_CPU_PRODUCT_INL_H_
#else
#define MLXRANK_CPU_PRODUCT_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <vector>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace mlxrank::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vec = hn::Vec<Tag>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(Tag()));
constexpr int kPanel = 2 * kLanes;

// Rows of a block: as many as keep the block's results in registers, beside two
// vectors of weights. There are 32 registers on AVX-512 and on arm64, else 16.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

// Rows of a tile: blocks that share a pass over the weights.
constexpr int kTile = 8 * kRows;

// Per thread, kept for the next call. At most a few hundred KB a thread.
template <int which>
float *Scratch(size_t floats) {
  static thread_local std::vector<float> buffer;
  if (buffer.size() < floats) {
    buffer.resize(floats);
  }
  return buffer.data();
}

// Writes rows of x transposed, [k][rows], as blocks read them.
inline void Transpose(const float *x, size_t stride, int rows, int k, float *out) {
  for (int p = 0; p < k; p++) {
    for (int r = 0; r < rows; r++) {
      out[static_cast<size_t>(p) * rows + r] = x[r * stride + p];
    }
  }
}

// sum[r] = start + a[r] * b for a block of rows and one panel: a [k][rows],
// b [k][kPanel]. finish(r, low, high) takes each row's two vectors.
template <int rows, class Finish>
HWY_INLINE void Block(const float *HWY_RESTRICT a, const float *HWY_RESTRICT b, int k,
                      const float *start, const Finish &finish) {
  const Tag d;
  Vec low[rows], high[rows];
  const Vec low_start = start ? hn::LoadU(d, start) : hn::Zero(d);
  const Vec high_start = start ? hn::LoadU(d, start + kLanes) : hn::Zero(d);
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    low[r] = low_start;
    high[r] = high_start;
  }
  for (int p = 0; p < k; p++) {
    const Vec b_low = hn::LoadU(d, b);
    const Vec b_high = hn::LoadU(d, b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      const Vec value = hn::Set(d, a[r]);
      low[r] = hn::MulAdd(value, b_low, low[r]);
      high[r] = hn::MulAdd(value, b_high, high[r]);
    }
    a += rows;
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    finish(r, low[r], high[r]);
  }
}

// Calls block(integral constant, first row) for blocks that cover the rows, the
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

// Stores the part of a panel's row that there are columns for.
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
template <class Act>
void LinearTile(const float *x, int rows, const Dense &w, const Act &act, float *y) {
  float *a = Scratch<0>(static_cast<size_t>(rows) * w.in);
  ForBlocks(rows, [&](auto n, int at) {
    Transpose(x + static_cast<size_t>(at) * w.in, w.in, n, w.in,
              a + static_cast<size_t>(at) * w.in);
  });
  const size_t panel_size = static_cast<size_t>(w.in + 1) * kPanel;
  for (int column = 0; column < w.out; column += kPanel) {
    const float *panel = w.packed + column / kPanel * panel_size;
    const int columns = w.out - column;
    ForBlocks(rows, [&](auto n, int at) {
      Block<n>(a + static_cast<size_t>(at) * w.in, panel + kPanel, w.in, panel,
               [&](int r, Vec low, Vec high) {
                 StorePart(act(low), act(high), columns,
                           y + static_cast<size_t>(at + r) * w.out + column);
               });
    });
  }
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
