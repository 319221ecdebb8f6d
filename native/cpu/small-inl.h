// Expands small weights to the float32 panels that the GEMM reads.

#if defined(MLXRANK_CPU_SMALL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_SMALL_INL_H_
#undef MLXRANK_CPU_SMALL_INL_H_
#else
#define MLXRANK_CPU_SMALL_INL_H_
#endif

#include "gemm-inl.h"
#include "small.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

using Bytes = hn::Rebind<uint8_t, Tag>;

// Writes scale * number + bias for the numbers of one vector. The multiplication is exact
// where scales have float16's or bfloat16's precision, so that it makes no difference
// whether the processor rounds it.
HWY_INLINE void StoreWeights(Ints numbers, Vec scale, Vec bias, float *out) {
  hn::StoreU(hn::MulAdd(hn::ConvertTo(Tag(), numbers), scale, bias), Tag(), out);
}

// Writes the panel with that index of a layer with small weights: biases, then for each
// input the weights.
inline void ExpandPanel(const PackedLinear &w, int index, float *out) {
  const SmallFormat f = small_format(w.factors);
  const Tag d;
  const IntTag ints;
  const float *panel = w.packed + index * small_panel(f, w.in, kPanel);
  std::copy_n(panel, kPanel, out);
  panel += kPanel;
  out += kPanel;
  for (int at = 0; at < w.in; at += f.group) {
    const auto *numbers = reinterpret_cast<const uint8_t *>(panel + 2 * kPanel);
    for (int half = 0; half < kPanel; half += kLanes) {
      const Vec scale = hn::LoadU(d, panel + half), bias = hn::LoadU(d, panel + kPanel + half);
      const uint8_t *from = numbers + half;
      float *to = out + half;
      if (f.bits == 8) {
        for (int i = 0; i < f.group; i++, from += kPanel, to += kPanel) {
          StoreWeights(hn::PromoteTo(ints, hn::LoadU(Bytes(), from)), scale, bias, to);
        }
      } else {
        for (int i = 0; i < f.group; i += 2, from += kPanel, to += 2 * kPanel) {
          const auto two = hn::PromoteTo(ints, hn::LoadU(Bytes(), from));
          StoreWeights(hn::And(two, hn::Set(ints, 15)), scale, bias, to);
          StoreWeights(hn::ShiftRight<4>(two), scale, bias, to + kPanel);
        }
      }
    }
    panel += kPanel * (2 + f.group * f.bits / 32);
    out += static_cast<size_t>(f.group) * kPanel;
  }
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
