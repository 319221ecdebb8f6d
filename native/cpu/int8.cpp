#include "int8.h"

// Highway compiles this file once for every instruction set, as kernels.cpp. The compiler is
// told not to fuse products and sums.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "int8.cpp"
#include "hwy/foreach_target.h"

#include <random>

#include "int8_attention-inl.h"
#include "int8_linear-inl.h"
#include "profile.h"
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
  WithDot([&](auto dot) {
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
  return factors == Factors::int8 ? Panels(out, in).size() : OrderedLinear::Size(out, in);
}

void Pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed) {
  if (factors == Factors::int8) {
    WithDot([&](auto dot) { PackPanels<decltype(dot)>(weight, bias, out, in, packed); });
  } else {
    OrderedLinear::Pack(weight, bias, out, in, packed);
  }
}

// Calls tile(first row, rows) for tiles that cover the rows.
template <class Call>
void ForTiles(int rows, const Call &tile) {
  for (int at = 0; at < rows; at += kTile) {
    tile(at, std::min(kTile, rows - at));
  }
}

void Linear(const float *x, int rows, const PackedLinear &w, Activation activation, float *y) {
  if (w.factors == Factors::ordered_float32) {
    const Timed timed(Phase::matmul, int64_t{2} * rows * w.in * w.out);
    return OrderedLinear::Run(x, rows, w, y);
  }
  WithDot([&](auto dot) {
    WithActivation(activation, [&](auto act) {
      ForTiles(rows, [&](int at, int n) {
        LinearTile<decltype(dot)>(x + static_cast<size_t>(at) * w.in, n, w, act,
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
  WithDot([&](auto dot) {
    ForTiles(rows, [&](int at, int n) {
      float *tile = y + static_cast<size_t>(at) * w.out;
      LinearTile<decltype(dot)>(x + static_cast<size_t>(at) * w.in, n, w, Same(), tile);
      AddNorm(tile, residual + static_cast<size_t>(at) * w.out, n, w.out, norm);
    });
  });
}

template <class Dot, class Act>
void FeedForwardTile(const float *x, int rows, const FeedForward &f, const Act &act, float *y) {
  const int hidden = f.inner.in;
  const float *in = x;
  if (f.pre_norm) {
    float *normed = Scratch<2, float>(static_cast<size_t>(rows) * hidden);
    LayerNorm(x, rows, hidden, f.norm, normed);
    in = normed;
  }
  float *between = Scratch<3, float>(static_cast<size_t>(rows) * f.outer.in);
  if (f.gated) {
    GatedTile<Dot>(in, rows, f.inner, act, f.outer.in, between);
  } else {
    LinearTile<Dot>(in, rows, f.inner, act, between);
  }
  LinearTile<Dot>(between, rows, f.outer, Same(), y);
  AddNorm(y, x, rows, hidden, f.pre_norm ? Norm{} : f.norm);
}

void RunFeedForward(const float *x, int rows, const FeedForward &f, float *y) {
  WithDot([&](auto dot) {
    WithActivation(f.activation, [&](auto act) {
      ForTiles(rows, [&](int at, int n) {
        const size_t from = static_cast<size_t>(at) * f.inner.in;
        FeedForwardTile<decltype(dot)>(x + from, n, f, act, y + from);
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
void AttendRotated(Head h, const Positions &positions) {
  if (positions.cos != nullptr) {
    const size_t size = h.size;
    float *rotated = Scratch<7, float>((h.queries + static_cast<size_t>(h.length)) * size);
    float *keys = rotated + h.queries * size;
    Rotate(h.query, h.query_stride, h.queries, h.size, positions, rotated);
    Rotate(h.key, h.key_stride, h.length, h.size, positions, keys);
    h.query = rotated;
    h.key = keys;
    h.query_stride = h.key_stride = size;
  }
  AttendHead(h, 1.0f / std::sqrt(static_cast<float>(h.size)));
}

void Attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               const Positions &positions, float *out) {
  const size_t hidden = static_cast<size_t>(heads.count) * heads.size;
  for (int pair = 0; pair < pairs; pair++) {
    const int length = lengths[pair], reach = positions.window > 0 ? positions.window : length;
    const Timed timed(Phase::attention, AttentionFlops(length, Around(length, positions), heads));
    for (int head = heads.first; head < heads.last; head++) {
      const size_t at = static_cast<size_t>(head) * heads.size;
      const float *query = qkv + at;
      AttendRotated({query, query + hidden, query + 2 * hidden, 3 * hidden, 3 * hidden, 3 * hidden,
                     length, length, heads.size, reach, out + at, hidden},
                    positions);
    }
    qkv += 3 * hidden * length;
    out += hidden * length;
  }
}

void AttentionCls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                  const Heads &heads, const Positions &positions, float *out) {
  const size_t hidden = static_cast<size_t>(heads.count) * heads.size;
  for (int pair = 0; pair < pairs; pair++) {
    const int length =
        positions.window > 0 ? std::min(lengths[pair] - 1, positions.window) + 1 : lengths[pair];
    const Timed timed(Phase::attention, AttentionFlops(1, length, heads));
    for (int head = heads.first; head < heads.last; head++) {
      const size_t at = static_cast<size_t>(head) * heads.size;
      AttendRotated({query + at, key_value + at, key_value + hidden + at, hidden, 2 * hidden,
                     2 * hidden, 1, length, heads.size, length, out + at, hidden},
                    positions);
    }
    query += hidden;
    key_value += 2 * hidden * lengths[pair];
    out += hidden;
  }
}

// Returns the embedding of a word.
const float *WordRow(const Embeddings &e, int32_t id) {
  if (e.small_words == nullptr) {
    return e.words + static_cast<size_t>(id) * e.size;
  }
  float *row = Scratch<0, float>(e.size);
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
  HWY_DYNAMIC_DISPATCH(Attention)(qkv, lengths, pairs, heads, positions, out);
}

void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, const Positions &positions, float *out) {
  HWY_DYNAMIC_DISPATCH(AttentionCls)(query, key_value, lengths, pairs, heads, positions, out);
}

void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y) {
  HWY_DYNAMIC_DISPATCH(Embed)(embeddings, ids, type_ids, lengths, pairs, y);
}

} // namespace mlxrank::cpu::int8
#endif
