// The layers of a model, for every number format of the factors. Included after what they are
// made of, which kernels.cpp and int8.cpp define differently: WithFactor, ComputeTile,
// SumOfRow, SumOfSquares, Exp, Gelu and Attend.

#if defined(MLXRANK_CPU_LAYERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_LAYERS_INL_H_
#undef MLXRANK_CPU_LAYERS_INL_H_
#else
#define MLXRANK_CPU_LAYERS_INL_H_
#endif

#include <cmath>

#include "common-inl.h"
#include "kernels.h"
#include "profile.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

struct Same {
  HWY_INLINE Vec operator()(Vec x) const { return x; }
};

// NaN stays NaN.
struct Relu {
  HWY_INLINE Vec operator()(Vec x) const {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(Tag())), x);
  }
};

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), where tanh(u) is
// 1 - 2 / (1 + e^2u).
struct GeluTanh {
  HWY_INLINE Vec operator()(Vec x) const {
    const Tag d;
    const Vec cubic = MultiplyAdd(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715f), x);
    const Vec twice = hn::Mul(cubic, hn::Set(d, 2 * 0.79788456080286536f));
    const Vec e = Exp(hn::Min(twice, hn::Set(d, 80.0f)));
    return hn::Sub(x, hn::Div(x, hn::Add(e, hn::Set(d, 1.0f))));
  }
};

// Calls f with the activation's function.
template <class F>
void WithActivation(Activation activation, const F &f) {
  switch (activation) {
  case Activation::none:
    return f(Same());
  case Activation::gelu:
    return f(Gelu());
  case Activation::gelu_tanh:
    return f(GeluTanh());
  case Activation::relu:
    return f(Relu());
  }
}

// Calls tile(first row, rows) for tiles that cover the rows.
template <class Call>
void ForTiles(int rows, const Call &tile) {
  for (int at = 0; at < rows; at += kTile) {
    tile(at, std::min(kTile, rows - at));
  }
}

// y [rows, out] = act(x W^T + bias) for the rows of one tile.
template <class Factor, class Act>
void LinearTile(const float *x, int rows, const PackedLinear &w, const Act &act, float *y) {
  ComputeTile<Factor>(x, rows, w, [&](int row, int column, Vec low, Vec high) {
    StorePart(act(low), act(high), w.out - column, y + static_cast<size_t>(row) * w.out + column);
  });
}

// y [rows, columns] = act(a) * b for the rows of one tile, where each panel of x W^T + bias has
// a vector of a and one of b.
template <class Factor, class Act>
void GatedTile(const float *x, int rows, const PackedLinear &w, const Act &act, int columns,
               float *y) {
  ComputeTile<Factor>(x, rows, w, [&](int row, int column, Vec low, Vec high) {
    const int at = column / 2;
    float *to = y + static_cast<size_t>(row) * columns + at;
    const Vec product = hn::Mul(act(low), high);
    if (columns - at >= kLanes) {
      hn::StoreU(product, Tag(), to);
    } else {
      HWY_ALIGN float rest[kLanes];
      hn::Store(product, Tag(), rest);
      std::memcpy(to, rest, static_cast<size_t>(columns - at) * sizeof(float));
    }
  });
}

inline void Linear(const float *x, int rows, const PackedLinear &w, Activation activation,
                   float *y) {
  WithFactor(w.factors, [&](auto factor) {
    WithActivation(activation, [&](auto act) {
      ForTiles(rows, [&](int at, int n) {
        LinearTile<decltype(factor)>(x + static_cast<size_t>(at) * w.in, n, w, act,
                                     y + static_cast<size_t>(at) * w.out);
      });
    });
  });
}

// row [n] += other
HWY_INLINE void AddRow(float *row, const float *other, int n) {
  const Tag d;
  ForRow(
      n,
      [&](int i) {
        hn::StoreU(hn::Add(hn::LoadU(d, row + i), hn::LoadU(d, other + i)), d, row + i);
      },
      [&](int i) { row[i] += other[i]; });
}

// row [n] = LayerNorm(row + residual); residual may be null.
HWY_INLINE void AddNormRow(float *row, const float *residual, const Norm &norm, int n) {
  const Tag d;
  if (residual) {
    AddRow(row, residual, n);
  }
  const auto count = static_cast<float>(n);
  const float mean = SumOfRow(row, n) / count;
  const float variance = SumOfSquares(row, n, mean) / count;
  const float scale = 1.0f / std::sqrt(variance + norm.epsilon);
  const Vec means = hn::Set(d, mean), scales = hn::Set(d, scale);
  ForRow(
      n,
      [&](int i) {
        const Vec v = hn::Mul(hn::Sub(hn::LoadU(d, row + i), means), scales);
        hn::StoreU(MultiplyAdd(v, hn::LoadU(d, norm.weight + i), hn::LoadU(d, norm.bias + i)), d,
                   row + i);
      },
      [&](int i) { row[i] = (row[i] - mean) * scale * norm.weight[i] + norm.bias[i]; });
}

// Adds the residual and applies LayerNorm if there is one.
inline void AddNorm(float *y, const float *residual, int rows, int columns, const Norm &norm) {
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

inline void LayerNorm(const float *x, int rows, int columns, const Norm &norm, float *y) {
  const Timed timed(Phase::norm);
  std::copy_n(x, static_cast<size_t>(rows) * columns, y);
  for (int r = 0; r < rows; r++) {
    AddNormRow(y + static_cast<size_t>(r) * columns, nullptr, norm, columns);
  }
}

inline void LinearAddNorm(const float *x, int rows, const PackedLinear &w, const float *residual,
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

inline void RunFeedForward(const float *x, int rows, const FeedForward &f, float *y) {
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
inline int Around(int length, const Positions &p) {
  return p.window > 0 ? static_cast<int>(std::min<int64_t>(length, 2 * int64_t{p.window} + 1))
                      : length;
}

// Counts the two matmuls with keys and values, whole panels included.
inline int64_t AttentionFlops(int64_t queries, int length, const Heads &h) {
  return 2 * queries * (h.last - h.first) *
         (int64_t{RoundUp(length, kPanel)} * h.size + int64_t{length} * RoundUp(h.size, kPanel));
}

// Writes n rows of size from x, rotated by their positions, to out [n, size].
inline void Rotate(const float *x, size_t stride, int n, int size, const Positions &p, float *out) {
  const Tag d;
  const int half = size / 2;
  for (int i = 0; i < n; i++) {
    // Writes half of a row: own cos + other sin.
    auto rotate = [&](const float *own, const float *other, const float *cos, const float *sin,
                      float *to) {
      ForRow(
          half,
          [&](int c) {
            const Vec turned = hn::Mul(hn::LoadU(d, other + c), hn::LoadU(d, sin + c));
            hn::StoreU(MultiplyAdd(hn::LoadU(d, own + c), hn::LoadU(d, cos + c), turned), d,
                       to + c);
          },
          [&](int c) { to[c] = own[c] * cos[c] + other[c] * sin[c]; });
    };
    const float *row = x + i * stride;
    const size_t at = static_cast<size_t>(i) * size;
    rotate(row, row + half, p.cos + at, p.sin + at, out + at);
    rotate(row + half, row, p.cos + at + half, p.sin + at + half, out + at + half);
  }
}

// Attends with the queries of a head. Rotates queries and keys if positions ask for it.
inline void AttendRotated(Head h, const Positions &positions, Factors factors) {
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
  Attend(h, 1.0f / std::sqrt(static_cast<float>(h.size)), factors);
}

inline void Attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
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

inline void AttentionCls(const float *query, const float *key_value, const int32_t *lengths,
                         int pairs, const Heads &heads, const Positions &positions, Factors factors,
                         float *out) {
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
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
