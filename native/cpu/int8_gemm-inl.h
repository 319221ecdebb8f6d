// The GEMM of --dtype int8: rows of integers times a panel of packed integer weights. Sums
// are exact, so that every instruction set gives the same results.

#if defined(MLXRANK_CPU_INT8_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_INT8_GEMM_INL_H_
#undef MLXRANK_CPU_INT8_GEMM_INL_H_
#else
#define MLXRANK_CPU_INT8_GEMM_INL_H_
#endif

#include "common-inl.h"
#include "kernels.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

#undef MLXRANK_INT8_X86
#undef MLXRANK_INT8_NEON
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
#define MLXRANK_INT8_X86 0
#define MLXRANK_INT8_NEON 0
#else
#define MLXRANK_INT8_X86 HWY_ARCH_X86
#define MLXRANK_INT8_NEON HWY_ARCH_ARM_A64
#endif

// A Dot type multiplies words of 32 bits, each of which has several small factors, and adds
// the products to a sum.

// Two signed factors of 16 bits.
struct Pairs {
  static HWY_INLINE Ints Add(Ints a, Ints b, Ints sum) {
#if MLXRANK_INT8_X86
    const IntTag d;
    const hn::Repartition<int16_t, IntTag> d16;
    Ints unused = hn::Zero(d);
    return hn::ReorderWidenMulAccumulate(d, hn::BitCast(d16, a), hn::BitCast(d16, b), sum, unused);
#elif MLXRANK_INT8_NEON
    const int16x8_t a16 = vreinterpretq_s16_s32(a.raw), b16 = vreinterpretq_s16_s32(b.raw);
    const int32x4_t low = vmull_s16(vget_low_s16(a16), vget_low_s16(b16));
    return Ints(vaddq_s32(sum.raw, vpaddq_s32(low, vmull_high_s16(a16, b16))));
#else
    auto even = [](Ints x) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(x)); };
    auto odd = [](Ints x) { return hn::ShiftRight<16>(x); };
    sum = hn::Add(sum, hn::Mul(even(a), even(b)));
    return hn::Add(sum, hn::Mul(odd(a), odd(b)));
#endif
  }
};

// Four factors of 8 bits: of a unsigned, less kZero, of b signed.
struct Generic {
  static constexpr int kZero = 0;

  static HWY_INLINE Ints Add(Ints a, Ints b, Ints sum) {
    const Ints byte = hn::Set(IntTag(), 255);
    sum = hn::Add(sum, hn::Mul(hn::And(a, byte), Signed<24>(b)));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<8>(a), byte), Signed<16>(b)));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<16>(a), byte), Signed<8>(b)));
    return hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<24>(a), byte), Signed<0>(b)));
  }

 private:
  template <int above>
  static HWY_INLINE Ints Signed(Ints x) {
    return hn::ShiftRight<24>(hn::ShiftLeft<above>(x));
  }
};

#if MLXRANK_INT8_X86
// Sums of two products are of 16 bits. They fit, because pack keeps the weights of each pair
// so small; see quantize_weights.
struct Bytes {
  static constexpr int kZero = 0;

  static HWY_INLINE Ints Add(Ints a, Ints b, Ints sum) {
#if HWY_TARGET <= HWY_AVX3
    const auto pairs = _mm512_maddubs_epi16(a.raw, b.raw);
    return hn::Add(sum, Ints{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))});
#elif HWY_TARGET == HWY_AVX2
    return AddPairs(_mm256_maddubs_epi16(a.raw, b.raw), sum);
#else
    const auto pairs = _mm_maddubs_epi16(a.raw, b.raw);
    return hn::Add(sum, Ints{_mm_madd_epi16(pairs, _mm_set1_epi16(1))});
#endif
  }

#if HWY_TARGET == HWY_AVX2
  // Is Add with an operand in memory.
  static HWY_INLINE Ints Add(Ints a, const int32_t *b, Ints sum) {
    __m256i pairs;
    asm("vpmaddubsw %2, %1, %0"
        : "=x"(pairs)
        : "x"(a.raw), "m"(*reinterpret_cast<const __m256i *>(b)));
    return AddPairs(pairs, sum);
  }

  static HWY_INLINE Ints AddPairs(__m256i pairs, Ints sum) {
    return hn::Add(sum, Ints{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))});
  }
#endif
};
#elif MLXRANK_INT8_NEON
struct Bytes {
  static constexpr int kZero = 128;

  static HWY_INLINE Ints Add(Ints a, Ints b, Ints sum) {
    const int8x16_t a8 = veorq_s8(vreinterpretq_s8_s32(a.raw), vdupq_n_s8(-128));
    const int8x16_t b8 = vreinterpretq_s8_s32(b.raw);
    const int16x8_t low = vmull_s8(vget_low_s8(a8), vget_low_s8(b8));
    const int16x8_t high = vmull_high_s8(a8, b8);
    return Ints(vpadalq_s16(sum.raw, vpaddq_s16(low, high)));
  }
};
#else
using Bytes = Generic;
#endif

#if MLXRANK_INT8_X86 && HWY_TARGET <= HWY_AVX2
// VNNI's instruction, as AVX-512 VNNI or AVX-VNNI. Highway 1.0 has no targets for them, and a
// compiler that may use them might do it elsewhere too; the assembler knows them.
struct Vnni {
  static constexpr int kZero = 0;

  static bool IsSupported() {
#if HWY_TARGET <= HWY_AVX3
    return __builtin_cpu_supports("avx512vnni");
#else
    return __builtin_cpu_supports("avxvnni");
#endif
  }

  static HWY_INLINE Ints Add(Ints a, Ints b, Ints sum) {
#if HWY_TARGET <= HWY_AVX3
    asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
#else
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.raw) : "x"(a.raw), "x"(b.raw));
#endif
    return sum;
  }
};
#endif

// Calls f with the fastest Dot type of bytes that the processor has.
template <class F>
HWY_INLINE void WithFactor(Factors, const F &f) {
#if MLXRANK_INT8_X86 && HWY_TARGET <= HWY_AVX2
  static const bool has_vnni = Vnni::IsSupported();
  if (has_vnni) {
    return f(Vnni());
  }
#endif
  f(Bytes());
}

HWY_INLINE int32_t Word(const int32_t *from) {
  int32_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// Computes start + the sum of a[r] * b for a block of rows and one panel: a [rows][steps] with
// a stride, b [steps][kPanel], in words. finish(r, low, high) receives the two vectors of
// each row.
template <class Dot, int rows, class Finish>
HWY_INLINE void Sum(const int32_t *HWY_RESTRICT a, size_t stride, const int32_t *HWY_RESTRICT b,
                    int steps, const int32_t *start, const Finish &finish) {
  const IntTag d;
  Ints low[rows], high[rows];
  const Ints low_start = start ? hn::Load(d, start) : hn::Zero(d);
  const Ints high_start = start ? hn::Load(d, start + kLanes) : hn::Zero(d);
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    low[r] = low_start;
    high[r] = high_start;
  }
  for (int p = 0; p < steps; p++) {
    const Ints b_low = hn::Load(d, b);
    const Ints b_high = hn::Load(d, b + kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
      const Ints value = hn::Set(d, Word(a + r * stride + p));
      low[r] = Dot::Add(value, b_low, low[r]);
#if HWY_TARGET == HWY_AVX2
      // Of 17 vectors that are alive GCC would keep a sum in memory, and load and store it.
      if constexpr (std::is_same_v<Dot, Bytes>) {
        high[r] = Dot::Add(value, b + kLanes, high[r]);
        continue;
      }
#endif
      high[r] = Dot::Add(value, b_high, high[r]);
    }
    b += kPanel;
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; r++) {
    finish(r, low[r], high[r]);
  }
}

// Writes the sums [rows][kPanel]. This function and the next are not inlined, because GCC then
// has too few registers for the sums.
template <class Dot, int rows>
HWY_NOINLINE void Multiply(const int32_t *a, size_t stride, const int32_t *b, int steps,
                           const int32_t *start, int32_t *HWY_RESTRICT sums) {
  Sum<Dot, rows>(a, stride, b, steps, start, [&](int r, Ints low, Ints high) {
    hn::Store(low, IntTag(), sums + r * kPanel);
    hn::Store(high, IntTag(), sums + r * kPanel + kLanes);
  });
}

// A group of weights of a panel: scales and start values [kPanel], weights [steps][kPanel].
struct Group {
  const float *scales;
  const int32_t *start, *weights;
  int steps;
};

// Computes totals [rows][kPanel] = before + sums * scales [rows] * scales of the group. before is
// [rows][kPanel] with a stride, scales have one too.
template <class Dot, int rows>
HWY_NOINLINE void AddGroup(const int32_t *a, size_t stride, const Group &group, const float *scales,
                           size_t scales_stride, const float *before, size_t before_stride,
                           float *totals) {
  const Tag d;
  Sum<Dot, rows>(
      a, stride, group.weights, group.steps, group.start, [&](int r, Ints low, Ints high) {
        const Vec scale = hn::Set(d, scales[r * scales_stride]);
        const float *from = before + r * before_stride;
        auto add = [&](Ints sum, int at) {
          const Vec by = hn::Load(d, group.scales + at);
          const Vec product = hn::Mul(hn::Mul(hn::ConvertTo(d, sum), scale), by);
          hn::Store(hn::Add(hn::Load(d, from + at), product), d, totals + r * kPanel + at);
        };
        add(low, 0);
        add(high, kLanes);
      });
}

// Calls finish(r, low, high) with the two vectors of each row that Multiply computes.
template <class Dot, int rows, class Finish>
HWY_INLINE void Block(const int32_t *a, size_t stride, const int32_t *b, int steps,
                      const int32_t *start, const Finish &finish) {
  const IntTag d;
  HWY_ALIGN int32_t sums[rows * kPanel];
  Multiply<Dot, rows>(a, stride, b, steps, start, sums);
  for (int r = 0; r < rows; r++) {
    finish(r, hn::Load(d, sums + r * kPanel), hn::Load(d, sums + r * kPanel + kLanes));
  }
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
