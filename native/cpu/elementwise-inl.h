// Arithmetic of the activations and the LayerNorm of float32.

#if defined(MLXRANK_CPU_ELEMENTWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_ELEMENTWISE_INL_H_
#undef MLXRANK_CPU_ELEMENTWISE_INL_H_
#else
#define MLXRANK_CPU_ELEMENTWISE_INL_H_
#endif

#include "common-inl.h"
#include "hwy/contrib/math/math-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

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

// x/2 (1 + erf(x / sqrt 2))
struct Gelu {
  HWY_INLINE Vec operator()(Vec x) const {
    const Tag d;
    const Vec half = hn::Mul(x, hn::Set(d, 0.5f));
    return MultiplyAdd(half, Erf(hn::Mul(x, hn::Set(d, 0.70710678118654752f))), half);
  }
};

HWY_INLINE Vec Exp(Vec x) { return hn::Exp(Tag(), x); }

// Returns the sum of row [n].
HWY_INLINE float SumOfRow(const float *row, int n) {
  const Tag d;
  Vec sums = hn::Zero(d);
  float sum = 0;
  ForRow(
      n, [&](int i) { sums = hn::Add(sums, hn::LoadU(d, row + i)); },
      [&](int i) { sum += row[i]; });
  return sum + hn::GetLane(hn::SumOfLanes(d, sums));
}

// Returns the sum of (number - mean)^2 of row [n].
HWY_INLINE float SumOfSquares(const float *row, int n, float mean) {
  const Tag d;
  const Vec means = hn::Set(d, mean);
  Vec sums = hn::Zero(d);
  float sum = 0;
  ForRow(
      n,
      [&](int i) {
        const Vec v = hn::Sub(hn::LoadU(d, row + i), means);
        sums = MultiplyAdd(v, v, sums);
      },
      [&](int i) { sum += (row[i] - mean) * (row[i] - mean); });
  return sum + hn::GetLane(hn::SumOfLanes(d, sums));
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
