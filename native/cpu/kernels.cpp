#include "kernels.h"

#include "int8.h"

// Highway compiles this file once for every instruction set. Scalable vectors
// are excluded: the compiler must know the size of a panel.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels.cpp"
#include "hwy/foreach_target.h"

#define MLXRANK_NAMESPACE mlxrank::cpu
#define MLXRANK_FUSE 1
#include "attention-inl.h"
#include "elementwise-inl.h"
#include "layers-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace mlxrank::cpu {
namespace HWY_NAMESPACE {

const char *Target() { return hwy::TargetName(HWY_TARGET); }

int PanelWidth() { return kPanel; }

bool HasBFloat16() {
#if MLXRANK_EMULATE_BFLOAT16
  return true;
#elif MLXRANK_CPU_BFLOAT16
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

size_t PackedSize(int out, int in, Factors factors) {
  size_t size = 0;
  WithFactor(factors, [&](auto factor) {
    size = static_cast<size_t>(RoundUp(out, kPanel)) * (factor.Steps(in) + 1);
  });
  return size;
}

void Pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed) {
  WithFactor(factors, [&](auto factor) {
    for (int column = 0; column < out; column += kPanel) {
      const int columns = std::min(kPanel, out - column);
      std::fill_n(packed, kPanel * (factor.Steps(in) + 1), 0.0f);
      std::copy_n(bias + column, columns, packed);
      packed += kPanel;
      // A panel stores its outputs like the rows of a block.
      factor.Transpose(weight + static_cast<size_t>(column) * in, in, columns, kPanel, in, packed);
      packed += kPanel * factor.Steps(in);
    }
  });
}

} // namespace HWY_NAMESPACE
} // namespace mlxrank::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxrank::cpu {

HWY_EXPORT(Target);
HWY_EXPORT(HasBFloat16);
HWY_EXPORT(PanelWidth);
HWY_EXPORT(PackedSize);
HWY_EXPORT(Pack);
HWY_EXPORT(Linear);
HWY_EXPORT(LinearAddNorm);
HWY_EXPORT(RunFeedForward);
HWY_EXPORT(Attention);
HWY_EXPORT(AttentionCls);

const char *target() { return HWY_DYNAMIC_DISPATCH(Target)(); }

namespace {

// Reports whether the kernels of int8.h have the layer.
bool is_ordered(Factors factors) {
  return factors == Factors::int8 || factors == Factors::ordered_float32;
}

} // namespace

int panel_width(Factors factors) {
  return is_ordered(factors) ? int8::panel_width() : HWY_DYNAMIC_DISPATCH(PanelWidth)();
}

bool has_bfloat16() { return HWY_DYNAMIC_DISPATCH(HasBFloat16)(); }

size_t packed_size(int out, int in, Factors factors) {
  if (is_ordered(factors)) {
    return int8::packed_size(out, in, factors);
  }
  return HWY_DYNAMIC_DISPATCH(PackedSize)(out, in, factors);
}

void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed) {
  if (is_ordered(factors)) {
    return int8::pack(weight, bias, out, in, factors, packed);
  }
  HWY_DYNAMIC_DISPATCH(Pack)(weight, bias, out, in, factors, packed);
}

void linear(const float *x, int rows, const PackedLinear &layer, Activation activation, float *y) {
  if (is_ordered(layer.factors)) {
    return int8::linear(x, rows, layer, activation, y);
  }
  HWY_DYNAMIC_DISPATCH(Linear)(x, rows, layer, activation, y);
}

void linear_add_norm(const float *x, int rows, const PackedLinear &layer, const float *residual,
                     const Norm &norm, float *y) {
  if (is_ordered(layer.factors)) {
    return int8::linear_add_norm(x, rows, layer, residual, norm, y);
  }
  HWY_DYNAMIC_DISPATCH(LinearAddNorm)(x, rows, layer, residual, norm, y);
}

void feed_forward(const float *x, int rows, const FeedForward &block, float *y) {
  if (is_ordered(block.inner.factors)) {
    return int8::feed_forward(x, rows, block, y);
  }
  HWY_DYNAMIC_DISPATCH(RunFeedForward)(x, rows, block, y);
}

void layer_norm(const float *x, int rows, int columns, const Norm &norm, float *y) {
  int8::layer_norm(x, rows, columns, norm, y);
}

void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               const Positions &positions, Factors factors, float *out) {
  if (is_ordered(factors)) {
    return int8::attention(qkv, lengths, pairs, heads, positions, out);
  }
  HWY_DYNAMIC_DISPATCH(Attention)(qkv, lengths, pairs, heads, positions, factors, out);
}

void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, const Positions &positions, Factors factors, float *out) {
  if (is_ordered(factors)) {
    return int8::attention_cls(query, key_value, lengths, pairs, heads, positions, out);
  }
  HWY_DYNAMIC_DISPATCH(AttentionCls)(query, key_value, lengths, pairs, heads, positions, factors,
                                     out);
}

void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y) {
  int8::embed(embeddings, ids, type_ids, lengths, pairs, y);
}

} // namespace mlxrank::cpu
#endif
