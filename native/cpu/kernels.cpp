#include "kernels.h"

#include "int8.h"

// Highway compiles this file once for every instruction set. Scalable vectors
// are excluded: the compiler must know the size of a panel.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels.cpp"
#include "hwy/foreach_target.h"

#include "attention-inl.h"

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
    size = static_cast<size_t>((out + kPanel - 1) / kPanel) * kPanel * (factor.Steps(in) + 1);
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

void Linear(const float *x, int rows, const PackedLinear &w, Activation activation, float *y) {
  WithFactor(w.factors, [&](auto factor) {
    WithActivation(activation, [&](auto act) {
      ForTiles(rows, [&](int at, int n) {
        LinearTile<decltype(factor)>(x + static_cast<size_t>(at) * w.in, n, w, act,
                                     y + static_cast<size_t>(at) * w.out);
      });
    });
  });
}

// Adds the residual and applies LayerNorm if there is one.
void AddNorm(float *y, const float *residual, int rows, int columns, const Norm &norm) {
  const Timed timed(Phase::norm);
  for (int r = 0; r < rows; r++) {
    const size_t at = static_cast<size_t>(r) * columns;
    if (norm.empty()) {
      AddRow(y + at, residual + at, columns);
    } else {
      AddNormRow(y + at, residual + at, norm, columns);
    }
  }
}

void LayerNorm(const float *x, int rows, int columns, const Norm &norm, float *y) {
  const Timed timed(Phase::norm);
  std::copy_n(x, static_cast<size_t>(rows) * columns, y);
  for (int r = 0; r < rows; r++) {
    AddNormRow(y + static_cast<size_t>(r) * columns, nullptr, norm, columns);
  }
}

void LinearAddNorm(const float *x, int rows, const PackedLinear &w, const float *residual,
                   const Norm &norm, float *y) {
  WithFactor(w.factors, [&](auto factor) {
    ForTiles(rows, [&](int at, int n) {
      float *tile = y + static_cast<size_t>(at) * w.out;
      LinearTile<decltype(factor)>(x + static_cast<size_t>(at) * w.in, n, w, Same(), tile);
      AddNorm(tile, residual + static_cast<size_t>(at) * w.out, n, w.out, norm);
    });
  });
}

template <class Factor, class Act>
void FeedForwardTile(const float *x, int rows, const FeedForward &f, const Act &act, float *y) {
  const int hidden = f.inner.in;
  const float *in = x;
  if (f.pre_norm) {
    float *normed = Scratch<6>(static_cast<size_t>(rows) * hidden);
    LayerNorm(x, rows, hidden, f.norm, normed);
    in = normed;
  }
  float *between = Scratch<5>(static_cast<size_t>(rows) * f.outer.in);
  if (f.gated) {
    GatedTile<Factor>(in, rows, f.inner, act, f.outer.in, between);
  } else {
    LinearTile<Factor>(in, rows, f.inner, act, between);
  }
  LinearTile<Factor>(between, rows, f.outer, Same(), y);
  AddNorm(y, x, rows, hidden, f.pre_norm ? Norm{} : f.norm);
}

void RunFeedForward(const float *x, int rows, const FeedForward &f, float *y) {
  WithFactor(f.inner.factors, [&](auto factor) {
    WithActivation(f.activation, [&](auto act) {
      ForTiles(rows, [&](int at, int n) {
        const size_t from = static_cast<size_t>(at) * f.inner.in;
        FeedForwardTile<decltype(factor)>(x + from, n, f, act, y + from);
      });
    });
  });
}

// Returns how many keys a token in the middle of a pair attends to.
int Around(int length, const Positions &p) {
  return p.window > 0 ? static_cast<int>(std::min<int64_t>(length, 2 * int64_t{p.window} + 1))
                      : length;
}

// Counts the two matmuls with keys and values, whole panels included.
int64_t AttentionFlops(int64_t queries, int64_t length, const Heads &h) {
  auto whole = [](int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; };
  return 2 * queries * (h.last - h.first) * (whole(length) * h.size + length * whole(h.size));
}

// Attends with the queries of a head. Rotates queries and keys if positions ask for it.
void AttendRotated(Head h, const Positions &positions, Factors factors) {
  if (positions.cos != nullptr) {
    const size_t size = h.size;
    float *rotated = Scratch<6>((h.queries + static_cast<size_t>(h.length)) * size);
    float *keys = rotated + h.queries * size;
    Rotate(h.query, h.query_stride, h.queries, h.size, positions, rotated);
    Rotate(h.key, h.key_stride, h.length, h.size, positions, keys);
    h.query = rotated;
    h.key = keys;
    h.query_stride = h.key_stride = size;
  }
  WithFactor(factors, [&](auto factor) {
    AttendHead<decltype(factor)>(h, 1.0f / std::sqrt(static_cast<float>(h.size)));
  });
}

void Attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               const Positions &positions, Factors factors, float *out) {
  const size_t hidden = static_cast<size_t>(heads.count) * heads.size;
  for (int pair = 0; pair < pairs; pair++) {
    const int length = lengths[pair], reach = positions.window > 0 ? positions.window : length;
    const Timed timed(Phase::attention, AttentionFlops(length, Around(length, positions), heads));
    for (int head = heads.first; head < heads.last; head++) {
      const size_t at = static_cast<size_t>(head) * heads.size;
      const float *query = qkv + at;
      AttendRotated({query, query + hidden, query + 2 * hidden, 3 * hidden, 3 * hidden, 3 * hidden,
                     length, length, heads.size, reach, out + at, hidden},
                    positions, factors);
    }
    qkv += 3 * hidden * length;
    out += hidden * length;
  }
}

void AttentionCls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                  const Heads &heads, const Positions &positions, Factors factors, float *out) {
  const size_t hidden = static_cast<size_t>(heads.count) * heads.size;
  for (int pair = 0; pair < pairs; pair++) {
    const int length =
        positions.window > 0 ? std::min(lengths[pair] - 1, positions.window) + 1 : lengths[pair];
    const Timed timed(Phase::attention, AttentionFlops(1, length, heads));
    for (int head = heads.first; head < heads.last; head++) {
      const size_t at = static_cast<size_t>(head) * heads.size;
      AttendRotated({query + at, key_value + at, key_value + hidden + at, hidden, 2 * hidden,
                     2 * hidden, 1, length, heads.size, length, out + at, hidden},
                    positions, factors);
    }
    query += hidden;
    key_value += 2 * hidden * lengths[pair];
    out += hidden;
  }
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
