// Quantisation, and what activations and LayerNorm of --dtype int8 are made of. Every operation
// gives the same bits on every instruction set: a sum over a row has kColumns partial sums,
// however many numbers a vector has.

#if defined(MLXRANK_CPU_INT8_ELEMENTWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MLXRANK_CPU_INT8_ELEMENTWISE_INL_H_
#undef MLXRANK_CPU_INT8_ELEMENTWISE_INL_H_
#else
#define MLXRANK_CPU_INT8_ELEMENTWISE_INL_H_
#endif

#include "int8.h"
#include "int8_gemm-inl.h"

MLXRANK_BEFORE_NAMESPACE();
namespace MLXRANK_NAMESPACE {
namespace HWY_NAMESPACE {

constexpr int kColumns = 16;
constexpr int kParts = kColumns / kLanes;

constexpr int32_t kMagicBits = 0x4b400000; // of kMagic

// Rounds to the nearest integer.
HWY_INLINE Ints Nearest(Vec x) {
  const IntTag di;
  return hn::Sub(hn::BitCast(di, hn::Add(x, hn::Set(Tag(), kMagic))), hn::Set(di, kMagicBits));
}

HWY_INLINE int32_t Nearest(float x) {
  const float sum = x + kMagic;
  uint32_t bits;
  std::memcpy(&bits, &sum, sizeof bits);
  return static_cast<int32_t>(bits - uint32_t{kMagicBits});
}

// Returns e^x for x of at most 80, exact to 2e-7 of it, and 0 below -87.
HWY_INLINE Vec Exp(Vec x) {
  const Tag d;
  static constexpr float c[] = {1.00000007f,   0.693146967f,   0.240221196f,
                                0.0555071328f, 0.00967554668f, 0.00132764872f};
  const Vec e = Power(hn::Mul(hn::Max(x, hn::Set(d, -87.0f)), hn::Set(d, 1.44269504f)), c);
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -87.0f)), e);
}

// x/2 (1 + erf(x / sqrt 2)), exact to 7e-5. That is below a hundredth of a
// quantisation step where the largest number of a group is 1.
struct Gelu {
  HWY_INLINE Vec operator()(Vec x) const {
    const Tag d;
    static constexpr float c[] = {0.398508724f,     -0.0655993727f,  0.00933746237f,
                                  -0.000960762171f, 6.82664e-05f,    -3.13988629e-06f,
                                  8.32984354e-08f,  -9.61314496e-10f};
    const Vec near = hn::Min(hn::Max(x, hn::Set(d, -4.2f)), hn::Set(d, 4.2f));
    const Vec phi = Polynomial(hn::Mul(near, near), c);
    return hn::Mul(x, MultiplyAdd(near, phi, hn::Set(d, 0.5f)));
  }
};

// Adds kColumns numbers: halves onto each other until one is left.
HWY_INLINE float SumOfColumns(const Vec (&sums)[kParts]) {
  HWY_ALIGN float all[kColumns];
  for (int part = 0; part < kParts; part++) {
    hn::Store(sums[part], Tag(), all + part * kLanes);
  }
  for (int half = kColumns / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) {
      all[i] = all[i] + all[i + half];
    }
  }
  return all[0];
}

// Returns the sum of term(v) for the numbers v of row [n], of which column i mod kColumns
// adds number i. Numbers that fill up the last columns are fill.
template <class Term>
HWY_INLINE float SumOfRow(const float *row, int n, float fill, const Term &term) {
  const Tag d;
  Vec sums[kParts];
#pragma GCC unroll 16
  for (int part = 0; part < kParts; part++) {
    sums[part] = hn::Zero(d);
  }
  auto add = [&](const float *from) {
#pragma GCC unroll 16
    for (int part = 0; part < kParts; part++) {
      sums[part] = hn::Add(sums[part], term(hn::LoadU(d, from + part * kLanes)));
    }
  };
  int at = 0;
  for (; at + kColumns <= n; at += kColumns) {
    add(row + at);
  }
  if (at < n) {
    float rest[kColumns];
    std::fill(rest, rest + kColumns, fill);
    std::memcpy(rest, row + at, static_cast<size_t>(n - at) * sizeof(float));
    add(rest);
  }
  return SumOfColumns(sums);
}

HWY_INLINE float SumOfRow(const float *row, int n) {
  return SumOfRow(row, n, 0, [](Vec v) { return v; });
}

// Returns the sum of (number - mean)^2 of row [n].
HWY_INLINE float SumOfSquares(const float *row, int n, float mean) {
  return SumOfRow(row, n, mean, [means = hn::Set(Tag(), mean)](Vec v) {
    v = hn::Sub(v, means);
    return hn::Mul(v, v);
  });
}

// Returns the largest absolute number of row [n], in each number of a vector; NaN or infinity
// if there is one. Bits of numbers without sign have the order of the numbers, and NaN comes last.
HWY_INLINE Vec LargestOfRow(const float *row, int n) {
  const Tag d;
  const IntTag di;
  const Ints magnitude = hn::Set(di, 0x7fffffff);
  Ints most = hn::Zero(di);
  ForRow(
      n,
      [&](int i) {
        most = hn::Max(most, hn::And(hn::BitCast(di, hn::LoadU(d, row + i)), magnitude));
      },
      [&](int i) {
        most = hn::Max(most, hn::And(hn::BitCast(di, hn::Set(d, row[i])), magnitude));
      });
  return hn::BitCast(d, hn::MaxOfLanes(di, most));
}

// Numbers become integers times a scale. most is the largest absolute number, steps the integer
// that stands for it. Numbers that are not finite get such a scale, and so do the results.
// Below 1e-30 all is zero, because the inverse might not be finite.
struct Scale {
  Vec scale, inverse;

  HWY_INLINE Scale(Vec most, float steps) {
    const Tag d;
    const auto none = hn::Lt(most, hn::Set(d, 1e-30f));
    scale = hn::IfThenZeroElse(none, hn::Mul(most, hn::Set(d, 1 / steps)));
    inverse = hn::IfThenZeroElse(none, hn::Div(hn::Set(d, steps), most));
  }
};

// Returns v with numbers i and i + stride exchanged, where stride is a power of 2.
template <int stride>
HWY_INLINE Vec Exchanged(Vec v) {
#if HWY_TARGET == HWY_SCALAR
  return v;
#else
  if constexpr (stride == 1) {
    return hn::Shuffle2301(v);
  } else if constexpr (stride == 2) {
    return hn::Shuffle1032(v);
  } else {
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86
    if constexpr (stride == 4) {
      return hn::SwapAdjacentBlocks(v);
    }
#endif
    return hn::ConcatLowerUpper(Tag(), v, v);
  }
#endif
}

// Returns the sums, and for numbers with stride in their index the differences, of numbers that
// are stride apart.
template <int stride>
HWY_INLINE Vec Butterfly(Vec v) {
  if constexpr (stride < kLanes) {
    constexpr int bit = stride == 1 ? 0 : stride == 2 ? 1 : stride == 4 ? 2 : 3;
    const Ints signs = hn::ShiftLeft<31>(hn::ShiftRight<bit>(hn::Iota(IntTag(), 0)));
    return hn::Add(Exchanged<stride>(v), hn::Xor(v, hn::BitCast(Tag(), signs)));
  }
  return v;
}

// Returns the butterflies of the strides within a vector.
HWY_INLINE Vec Butterflies(Vec v) {
  return Butterfly<1>(Butterfly<2>(Butterfly<4>(Butterfly<8>(v))));
}

// Rotates x [n] as rotate of int8.h does: two strides in each pass, and in the last one also the
// strides within a vector. n is a multiple of block, and block of kColumns.
HWY_INLINE void RotateBlocks(const float *x, int n, int block, float *out) {
  const Tag d;
  int stride = block / 2;
  for (; stride >= 2 * kLanes; stride /= 4) {
    const int half = stride / 2;
    auto pass = [&](const auto &finish) {
      for (int at = 0; at < n; at += 2 * stride) {
        for (int i = at; i < at + half; i += kLanes) {
          const Vec a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + half),
                    c = hn::LoadU(d, x + i + stride), e = hn::LoadU(d, x + i + stride + half);
          const Vec ac = hn::Add(a, c), a_c = hn::Sub(a, c), be = hn::Add(b, e),
                    b_e = hn::Sub(b, e);
          hn::Store(finish(hn::Add(ac, be)), d, out + i);
          hn::Store(finish(hn::Sub(ac, be)), d, out + i + half);
          hn::Store(finish(hn::Add(a_c, b_e)), d, out + i + stride);
          hn::Store(finish(hn::Sub(a_c, b_e)), d, out + i + stride + half);
        }
      }
    };
    if (half == kLanes) {
      pass([](Vec v) { return Butterflies(v); });
    } else {
      pass([](Vec v) { return v; });
    }
    x = out;
  }
  for (int i = 0; stride == kLanes && i < n; i += 2 * kLanes) {
    const Vec a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + i + kLanes);
    hn::Store(Butterflies(hn::Add(a, b)), d, out + i);
    hn::Store(Butterflies(hn::Sub(a, b)), d, out + i + kLanes);
  }
  for (int i = 0; block == kLanes && i < n; i += kLanes) {
    hn::Store(Butterflies(hn::LoadU(d, x + i)), d, out + i);
  }
}

// Quantises row [n], rotated, to unsigned bytes around kSteps. Each group has a scale. Fills up
// the last word.
HWY_INLINE void QuantizeRow(const float *row, int n, float *rotated, uint8_t *out, float *scales) {
  const Tag d;
  const hn::RebindToUnsigned<Tag> d32;
  const hn::Rebind<uint8_t, Tag> d8;
  const int block = rotation_block(n);
  if (block >= kColumns) {
    RotateBlocks(row, n, block, rotated);
  } else {
    std::copy_n(row, n, rotated);
    rotate(rotated, n);
  }
  for (int from = 0; from < n; from += kGroup, out += kGroup) {
    const float *x = rotated + from;
    const int count = std::min(kGroup, n - from);
    const Scale s(LargestOfRow(x, count), kSteps);
    *scales++ = hn::GetLane(s.scale);
    const Vec zero = hn::Set(d, kMagic + kSteps);
    ForRow(
        count,
        [&](int i) {
          // The lowest byte of the sum is the integer.
          const Vec sum = hn::Add(hn::Mul(hn::Load(d, x + i), s.inverse), zero);
          const auto byte = hn::And(hn::BitCast(d32, sum), hn::Set(d32, 255));
          hn::StoreU(hn::U8FromU32(byte), d8, out + i);
        },
        [&](int i) {
          out[i] = static_cast<uint8_t>(Nearest(x[i] * hn::GetLane(s.inverse)) + kSteps);
        });
    for (int i = count; i % 4 != 0; i++) {
      out[i] = kSteps;
    }
  }
}

} // namespace HWY_NAMESPACE
} // namespace MLXRANK_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
