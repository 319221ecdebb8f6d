// Activations and LayerNorm.

#if defined(MLXRANK_CPU_ELEMENTWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_ELEMENTWISE_INL_H_
#undef MLXRANK_CPU_ELEMENTWISE_INL_H_
#else
#define MLXRANK_CPU_ELEMENTWISE_INL_H_
#endif

#include <cmath>

#include "gemm-inl.h"
#include "hwy/contrib/math/math-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace mlxrank::cpu {
namespace HWY_NAMESPACE {

// Returns the sum of c[n] t^n.
template <int n>
HWY_INLINE Vec Polynomial(Vec t, const float (&c)[n]) {
  const Tag d;
  Vec sum = hn::Set(d, c[n - 1]);
#pragma GCC unroll 8
  for (int i = n - 2; i >= 0; i--) {
    sum = hn::MulAdd(sum, t, hn::Set(d, c[i]));
  }
  return sum;
}

// Returns erf(x) as x P(x^2) / Q(x^2), exact to 5e-7: a minimax fit on [-4, 4].
// Outside of that, float32 has no number between erf and its limit.
HWY_INLINE Vec Erf(Vec x) {
  const Tag d;
  static constexpr float p[] = {-1.60960333262415e-02f, -2.95459980854025e-03f,
                                -7.34990630326855e-04f, -5.69250639462346e-05f,
                                -2.10102402082508e-06f, 2.77068142495902e-08f,
                                -2.72614225801306e-10f};
  static constexpr float q[] = {-1.42647390514189e-02f, -7.37332916720468e-03f,
                                -1.68282697438203e-03f, -2.13374055278905e-04f,
                                -1.45660718464996e-05f};
  x = hn::Min(hn::Max(x, hn::Set(d, -4.0f)), hn::Set(d, 4.0f));
  const Vec t = hn::Mul(x, x);
  return hn::Div(hn::Mul(x, Polynomial(t, p)), Polynomial(t, q));
}

struct Same {
  HWY_INLINE Vec operator()(Vec x) const { return x; }
};

struct Relu {
  HWY_INLINE Vec operator()(Vec x) const { return hn::Max(x, hn::Zero(Tag())); }
};

// x/2 (1 + erf(x / sqrt 2))
struct Gelu {
  HWY_INLINE Vec operator()(Vec x) const {
    const Tag d;
    const Vec half = hn::Mul(x, hn::Set(d, 0.5f));
    return hn::MulAdd(half, Erf(hn::Mul(x, hn::Set(d, 0.70710678118654752f))), half);
  }
};

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), where tanh(u) is
// 1 - 2 / (1 + e^2u).
struct GeluTanh {
  HWY_INLINE Vec operator()(Vec x) const {
    const Tag d;
    const Vec cubic = hn::MulAdd(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715f), x);
    const Vec twice = hn::Mul(cubic, hn::Set(d, 2 * 0.79788456080286536f));
    const Vec e = hn::Exp(d, hn::Min(twice, hn::Set(d, 80.0f)));
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
  Vec sums = hn::Zero(d);
  float sum = 0;
  ForRow(
      n,
      [&](int i) {
        Vec v = hn::LoadU(d, row + i);
        if (residual) {
          v = hn::Add(v, hn::LoadU(d, residual + i));
          hn::StoreU(v, d, row + i);
        }
        sums = hn::Add(sums, v);
      },
      [&](int i) {
        row[i] += residual ? residual[i] : 0;
        sum += row[i];
      });
  const float mean = (sum + hn::GetLane(hn::SumOfLanes(d, sums))) / static_cast<float>(n);
  const Vec means = hn::Set(d, mean);
  sums = hn::Zero(d);
  sum = 0;
  ForRow(
      n,
      [&](int i) {
        const Vec v = hn::Sub(hn::LoadU(d, row + i), means);
        sums = hn::MulAdd(v, v, sums);
      },
      [&](int i) { sum += (row[i] - mean) * (row[i] - mean); });
  const float variance = (sum + hn::GetLane(hn::SumOfLanes(d, sums))) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(variance + norm.epsilon);
  const Vec scales = hn::Set(d, scale);
  ForRow(
      n,
      [&](int i) {
        const Vec v = hn::Mul(hn::Sub(hn::LoadU(d, row + i), means), scales);
        hn::StoreU(hn::MulAdd(v, hn::LoadU(d, norm.weight + i), hn::LoadU(d, norm.bias + i)), d,
                   row + i);
      },
      [&](int i) { row[i] = (row[i] - mean) * scale * norm.weight[i] + norm.bias[i]; });
}

} // namespace HWY_NAMESPACE
} // namespace mlxrank::cpu
HWY_AFTER_NAMESPACE();

#endif
