// Linear layers of --dtype int8: packed weights, and the tiles that read them.

#if defined(MLXRANK_CPU_INT8_LINEAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_INT8_LINEAR_INL_H_
#undef MLXRANK_CPU_INT8_LINEAR_INL_H_
#else
#define MLXRANK_CPU_INT8_LINEAR_INL_H_
#endif

#include "int8.h"
#include "int8_elementwise-inl.h"
#include "profile.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

// The layout of packed weights, in words of 32 bits from an address that is a multiple of 64
// bytes. A panel has kPanel outputs: their biases, then for each group of inputs their scales,
// the start values of their sums, and for every four inputs the weights of each output.
struct Panels {
  static constexpr int kSteps = kGroup / 4; // words of a whole group

  int count, words, groups; // words and groups of a row
  size_t panel;

  Panels(int out, int in)
      : count(CeilDiv(out, kPanel)),
        words(CeilDiv(in, 4)),
        groups(CeilDiv(in, kGroup)),
        panel(static_cast<size_t>(kPanel) * (1 + 2 * groups + words)) {}

  // Returns the size in floats, with room to align.
  size_t size() const { return count * panel + 16; }

  // Returns where a group begins in a panel.
  static size_t GroupAt(int group) {
    return static_cast<size_t>(kPanel) * (1 + static_cast<size_t>(group) * (2 + kSteps));
  }

  static const float *Align(const float *packed) {
    const auto at = reinterpret_cast<uintptr_t>(packed);
    return reinterpret_cast<const float *>((at + 63) / 64 * 64);
  }
};

template <class Dot>
void PackPanels(const float *weight, const float *bias, int out, int in, float *packed) {
  const Panels p(out, in);
  std::fill_n(packed, p.size(), 0.0f);
  float *panels = const_cast<float *>(Panels::Align(packed));
  std::vector<float> rotated(in);
  for (int o = 0; o < out; o++) {
    std::copy_n(weight + static_cast<size_t>(o) * in, in, rotated.data());
    rotate(rotated.data(), in);
    float *panel = panels + o / kPanel * p.panel + o % kPanel;
    panel[0] = bias[o];
    for (int group = 0; group < p.groups; group++) {
      const int from = group * kGroup, count = std::min(kGroup, in - from);
      int8_t quantized[kGroup] = {};
      float *to = panel + Panels::GroupAt(group);
      *to = quantize_weights(rotated.data() + from, count, quantized) /
            static_cast<float>(rotation_block(in));
      int32_t start = 0;
      for (int i = 0; i < count; i++) {
        start += quantized[i] * (Dot::kZero - int8::kSteps);
      }
      std::memcpy(to + kPanel, &start, sizeof start);
      for (int i = 0; i < count; i += 4) {
        std::memcpy(to + (2 + i / 4) * kPanel, quantized + i, 4);
      }
    }
  }
}

// Computes x W^T + bias for the rows of one tile. store(row, column, low, high)
// receives the two vectors of a panel that begins at column.
template <class Dot, class Store>
HWY_INLINE void ComputeTile(const float *x, int rows, const PackedLinear &w, const Store &store) {
  const Tag d;
  const Timed timed(Phase::matmul, int64_t{2} * rows * w.in * RoundUp(w.out, kPanel));
  count_matmul(MLXRANK_IN_ENCODER, MLXRANK_INT8, MLXRANK_INT8);
  const Panels p(w.out, w.in);
  auto *a = Scratch<0, int32_t>(static_cast<size_t>(rows) * p.words);
  auto *scales = Scratch<0>(static_cast<size_t>(rows) * p.groups);
  auto *rotated = Scratch<1>(w.in);
  for (int r = 0; r < rows; r++) {
    QuantizeRow(x + static_cast<size_t>(r) * w.in, w.in, rotated,
                reinterpret_cast<uint8_t *>(a + static_cast<size_t>(r) * p.words),
                scales + static_cast<size_t>(r) * p.groups);
  }
  HWY_ALIGN float totals[kTile * kPanel]; // of the groups so far
  const float *panel = Panels::Align(w.packed);
  for (int column = 0; column < w.out; column += kPanel, panel += p.panel) {
    for (int group = 0; group < p.groups; group++) {
      const int first = group * Panels::kSteps;
      const float *from = panel + Panels::GroupAt(group);
      const auto *start = reinterpret_cast<const int32_t *>(from) + kPanel;
      const Group of_panel = {from, start, start + kPanel,
                              std::min(Panels::kSteps, p.words - first)};
      ForBlocks(rows, [&](auto n, int at) {
        float *to = totals + at * kPanel;
        AddGroup<Dot, n>(a + static_cast<size_t>(at) * p.words + first, p.words, of_panel,
                         scales + static_cast<size_t>(at) * p.groups + group, p.groups,
                         group == 0 ? panel : to, group == 0 ? 0 : kPanel, to);
        for (int r = 0; group + 1 == p.groups && r < n; r++, to += kPanel) {
          store(at + r, column, hn::Load(d, to), hn::Load(d, to + kLanes));
        }
      });
    }
  }
}

// A linear layer in float32, for heads: packed are the weights as they are, then the biases.
inline size_t OrderedSize(int out, int in) { return static_cast<size_t>(out) * (size_t{1} + in); }

inline void PackOrdered(const float *weight, const float *bias, int out, int in, float *packed) {
  std::copy_n(bias, out, std::copy_n(weight, static_cast<size_t>(out) * in, packed));
}

inline void LinearOrdered(const float *x, int rows, const PackedLinear &w, float *y) {
  const Timed timed(Phase::matmul, int64_t{2} * rows * w.in * w.out);
  count_matmul(MLXRANK_IN_ENCODER, MLXRANK_FLOAT32, MLXRANK_FLOAT32);
  const float *bias = w.packed + static_cast<size_t>(w.out) * w.in;
  std::vector<float> products(w.in);
  for (int r = 0; r < rows; r++, x += w.in) {
    for (int o = 0; o < w.out; o++) {
      const float *weight = w.packed + static_cast<size_t>(o) * w.in;
      ForRow(
          w.in,
          [&](int i) {
            hn::StoreU(hn::Mul(hn::LoadU(Tag(), x + i), hn::LoadU(Tag(), weight + i)), Tag(),
                       products.data() + i);
          },
          [&](int i) { products[i] = x[i] * weight[i]; });
      *y++ = SumOfRow(products.data(), w.in) + bias[o];
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
