#include "int8.h"

// Highway compiles this file once for every instruction set, as kernels.cpp. The compiler is
// told not to fuse products and sums.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "int8.cpp"
#include "hwy/foreach_target.h"

#include <random>

#define MLXRANK_NAMESPACE mlxrank::cpu::int8
#define MLXRANK_FUSE 0
#include "int8_attention-inl.h"
#include "int8_linear-inl.h"
#include "layers-inl.h"
#include "small.h"

HWY_BEFORE_NAMESPACE();
namespace mlxrank::cpu::int8 {
namespace HWY_NAMESPACE {

int PanelWidth() { return kPanel; }

// Compares sums of the fastest Dot type with sums of plain arithmetic.
bool IsExact() {
  constexpr int steps = 37;
  std::mt19937 random(1);
  HWY_ALIGN int32_t a[kRows * steps], b[steps * kPanel], sums[kRows * kPanel],
      plain[kRows * kPanel];
  int8_t weights[4];
  for (int32_t &word : a) {
    word = static_cast<int32_t>(random());
  }
  for (int32_t &word : b) {
    for (int8_t &weight : weights) {
      weight = static_cast<int8_t>(static_cast<int>(random() % 129) - 64);
    }
    std::memcpy(&word, weights, sizeof word);
  }
  bool exact = true;
  WithFactor(Factors::int8, [&](auto dot) {
    auto compute = [&](auto kind, int32_t *to) {
      Block<decltype(kind), kRows>(a, steps, b, steps, nullptr, [&](int r, Ints low, Ints high) {
        hn::Store(low, IntTag(), to + r * kPanel);
        hn::Store(high, IntTag(), to + r * kPanel + kLanes);
      });
    };
    compute(dot, sums);
    compute(Generic(), plain);
    for (int c = 0; c < kPanel; c++) {
      int32_t total = 0;
      for (int p = 0; p < steps; p++) {
        std::memcpy(weights, b + p * kPanel + c, sizeof weights);
        total += weights[0] + weights[1] + weights[2] + weights[3];
      }
      for (int r = 0; r < kRows; r++) {
        exact &= sums[r * kPanel + c] == plain[r * kPanel + c] - dot.kZero * total;
      }
    }
  });
  return exact;
}

size_t PackedSize(int out, int in, Factors factors) {
  return factors == Factors::int8 ? Panels(out, in).size() : OrderedSize(out, in);
}

void Pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed) {
  if (factors == Factors::int8) {
    WithFactor(factors,
               [&](auto dot) { PackPanels<decltype(dot)>(weight, bias, out, in, packed); });
  } else {
    PackOrdered(weight, bias, out, in, packed);
  }
}

// Returns the embedding of a word.
const float *WordRow(const Embeddings &e, int32_t id) {
  if (e.small_words == nullptr) {
    return e.words + static_cast<size_t>(id) * e.size;
  }
  float *row = Scratch<0>(e.size);
  expand_row(*e.small_words, id, e.size, row);
  return row;
}

void Embed(const Embeddings &e, const int32_t *ids, const int32_t *type_ids, const int32_t *lengths,
           int pairs, float *y) {
  const Timed timed(Phase::gather);
  const Tag d;
  const int padding = e.first_position - 1; // no id, if all positions count
  for (int pair = 0; pair < pairs; pair++) {
    int next = e.first_position;
    for (int i = 0; i < lengths[pair]; i++) {
      const size_t row = *ids == padding ? padding : next++;
      const float *word = WordRow(e, *ids++);
      const float *type = e.types + static_cast<size_t>(*type_ids++) * e.size;
      ForRow(
          e.size,
          [&](int c) {
            hn::StoreU(hn::Add(hn::LoadU(d, word + c), hn::LoadU(d, type + c)), d, y + c);
          },
          [&](int c) { y[c] = word[c] + type[c]; });
      AddNormRow(y, e.positions ? e.positions + row * e.size : nullptr, e.norm, e.size);
      y += e.size;
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace mlxrank::cpu::int8
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mlxrank::cpu::int8 {

HWY_EXPORT(PanelWidth);
HWY_EXPORT(IsExact);
HWY_EXPORT(PackedSize);
HWY_EXPORT(Pack);
HWY_EXPORT(Linear);
HWY_EXPORT(LinearOrdered);
HWY_EXPORT(LinearAddNorm);
HWY_EXPORT(RunFeedForward);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(Attention);
HWY_EXPORT(AttentionCls);
HWY_EXPORT(Embed);

bool is_exact() { return HWY_DYNAMIC_DISPATCH(IsExact)(); }

int panel_width() { return HWY_DYNAMIC_DISPATCH(PanelWidth)(); }

size_t packed_size(int out, int in, Factors factors) {
  return HWY_DYNAMIC_DISPATCH(PackedSize)(out, in, factors);
}

void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed) {
  HWY_DYNAMIC_DISPATCH(Pack)(weight, bias, out, in, factors, packed);
}

void linear(const float *x, int rows, const PackedLinear &layer, Activation activation, float *y) {
  if (layer.factors == Factors::ordered_float32) {
    return HWY_DYNAMIC_DISPATCH(LinearOrdered)(x, rows, layer, y);
  }
  HWY_DYNAMIC_DISPATCH(Linear)(x, rows, layer, activation, y);
}

void linear_add_norm(const float *x, int rows, const PackedLinear &layer, const float *residual,
                     const Norm &norm, float *y) {
  HWY_DYNAMIC_DISPATCH(LinearAddNorm)(x, rows, layer, residual, norm, y);
}

void feed_forward(const float *x, int rows, const FeedForward &block, float *y) {
  HWY_DYNAMIC_DISPATCH(RunFeedForward)(x, rows, block, y);
}

void layer_norm(const float *x, int rows, int columns, const Norm &norm, float *y) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, rows, columns, norm, y);
}

void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               const Positions &positions, float *out) {
  HWY_DYNAMIC_DISPATCH(Attention)(qkv, lengths, pairs, heads, positions, Factors::int8, out);
}

void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, const Positions &positions, float *out) {
  HWY_DYNAMIC_DISPATCH(AttentionCls)(query, key_value, lengths, pairs, heads, positions,
                                     Factors::int8, out);
}

void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y) {
  HWY_DYNAMIC_DISPATCH(Embed)(embeddings, ids, type_ids, lengths, pairs, y);
}

} // namespace mlxrank::cpu::int8
#endif
