#include "kernels.h"

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
#if MLXRANK_CPU_BFLOAT16
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

void AddNorm(float *y, const float *residual, int rows, int columns, const Norm &norm) {
  const Timed timed(Phase::norm);
  for (int r = 0; r < rows; r++) {
    const size_t at = static_cast<size_t>(r) * columns;
    AddNormRow(y + at, residual + at, norm, columns);
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

void FeedForward(const float *x, int rows, const PackedLinear &inner, Activation activation,
                 const PackedLinear &outer, const Norm &norm, float *y) {
  WithFactor(inner.factors, [&](auto factor) {
    WithActivation(activation, [&](auto act) {
      ForTiles(rows, [&](int at, int n) {
        const float *tile = x + static_cast<size_t>(at) * inner.in;
        float *out = y + static_cast<size_t>(at) * outer.out;
        float *between = Scratch<5>(static_cast<size_t>(n) * inner.out);
        LinearTile<decltype(factor)>(tile, n, inner, act, between);
        LinearTile<decltype(factor)>(between, n, outer, Same(), out);
        AddNorm(out, tile, n, outer.out, norm);
      });
    });
  });
}

// Counts the two matmuls with keys and values, whole panels included.
int64_t AttentionFlops(int64_t queries, int64_t length, const Heads &h) {
  auto whole = [](int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; };
  return 2 * queries * (h.last - h.first) * (whole(length) * h.size + length * whole(h.size));
}

void Attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               float *out) {
  const size_t hidden = static_cast<size_t>(heads.count) * heads.size;
  const float scale = 1.0f / std::sqrt(static_cast<float>(heads.size));
  for (int pair = 0; pair < pairs; pair++) {
    const int length = lengths[pair];
    const Timed timed(Phase::attention, AttentionFlops(length, length, heads));
    for (int head = heads.first; head < heads.last; head++) {
      const size_t at = static_cast<size_t>(head) * heads.size;
      const float *query = qkv + at;
      AttendHead({query, query + hidden, query + 2 * hidden, 3 * hidden, 3 * hidden, length, length,
                  heads.size, out + at, hidden},
                 scale);
    }
    qkv += 3 * hidden * length;
    out += hidden * length;
  }
}

void AttentionCls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                  const Heads &heads, float *out) {
  const size_t hidden = static_cast<size_t>(heads.count) * heads.size;
  const float scale = 1.0f / std::sqrt(static_cast<float>(heads.size));
  for (int pair = 0; pair < pairs; pair++) {
    const Timed timed(Phase::attention, AttentionFlops(1, lengths[pair], heads));
    for (int head = heads.first; head < heads.last; head++) {
      const size_t at = static_cast<size_t>(head) * heads.size;
      AttendHead({query + at, key_value + at, key_value + hidden + at, hidden, 2 * hidden, 1,
                  lengths[pair], heads.size, out + at, hidden},
                 scale);
    }
    query += hidden;
    key_value += 2 * hidden * lengths[pair];
    out += hidden;
  }
}

void Embed(const Embeddings &e, const int32_t *ids, const int32_t *type_ids, const int32_t *lengths,
           int pairs, float *y) {
  const Timed timed(Phase::gather);
  const Tag d;
  for (int pair = 0; pair < pairs; pair++) {
    for (int position = 0; position < lengths[pair]; position++) {
      const float *word = e.words + static_cast<size_t>(*ids++) * e.hidden;
      const float *type = e.types + static_cast<size_t>(*type_ids++) * e.hidden;
      const float *pos = e.positions + static_cast<size_t>(position) * e.hidden;
      ForRow(
          e.hidden,
          [&](int i) {
            const Vec sum = hn::Add(hn::LoadU(d, word + i), hn::LoadU(d, type + i));
            hn::StoreU(hn::Add(sum, hn::LoadU(d, pos + i)), d, y + i);
          },
          [&](int i) { y[i] = word[i] + type[i] + pos[i]; });
      AddNormRow(y, nullptr, e.norm, e.hidden);
      y += e.hidden;
    }
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
HWY_EXPORT(FeedForward);
HWY_EXPORT(Attention);
HWY_EXPORT(AttentionCls);
HWY_EXPORT(Embed);

const char *target() { return HWY_DYNAMIC_DISPATCH(Target)(); }

int panel_width() { return HWY_DYNAMIC_DISPATCH(PanelWidth)(); }

bool has_bfloat16() { return HWY_DYNAMIC_DISPATCH(HasBFloat16)(); }

size_t packed_size(int out, int in, Factors factors) {
  return HWY_DYNAMIC_DISPATCH(PackedSize)(out, in, factors);
}

void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed) {
  HWY_DYNAMIC_DISPATCH(Pack)(weight, bias, out, in, factors, packed);
}

void linear(const float *x, int rows, const PackedLinear &layer, Activation activation, float *y) {
  HWY_DYNAMIC_DISPATCH(Linear)(x, rows, layer, activation, y);
}

void linear_add_norm(const float *x, int rows, const PackedLinear &layer, const float *residual,
                     const Norm &norm, float *y) {
  HWY_DYNAMIC_DISPATCH(LinearAddNorm)(x, rows, layer, residual, norm, y);
}

void feed_forward(const float *x, int rows, const PackedLinear &inner, Activation activation,
                  const PackedLinear &outer, const Norm &norm, float *y) {
  HWY_DYNAMIC_DISPATCH(FeedForward)(x, rows, inner, activation, outer, norm, y);
}

void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               float *out) {
  HWY_DYNAMIC_DISPATCH(Attention)(qkv, lengths, pairs, heads, out);
}

void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, float *out) {
  HWY_DYNAMIC_DISPATCH(AttentionCls)(query, key_value, lengths, pairs, heads, out);
}

void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y) {
  HWY_DYNAMIC_DISPATCH(Embed)(embeddings, ids, type_ids, lengths, pairs, y);
}

} // namespace mlxrank::cpu
#endif
