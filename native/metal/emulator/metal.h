// Enough of Metal to compile and run the kernels of this folder as C++, for tests. A
// threadgroup's threads are fibers of one thread of the host, which run in random
// order from one point of synchronisation to the next: a missing barrier shows as a
// wrong result. Threadgroup memory begins as NaN. half and bfloat convert to float and
// back only explicitly, so that kernels compute in float.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

using uint = unsigned int;
using ushort = unsigned short;

namespace emulator {

#ifdef __aarch64__
using NativeHalf = __fp16;
#else
using NativeHalf = _Float16;
#endif

struct half {
  half() = default;
  explicit half(float x) : value(static_cast<NativeHalf>(x)) {}
  explicit operator float() const { return static_cast<float>(value); }
  NativeHalf value;
};

// The upper half of a float. Conversion rounds to the nearest, ties to even.
struct bfloat {
  bfloat() = default;
  explicit bfloat(float x) {
    uint32_t whole;
    std::memcpy(&whole, &x, sizeof whole);
    bits =
        std::isnan(x) ? 0x7fc0 : static_cast<uint16_t>((whole + 0x7fff + (whole >> 16 & 1)) >> 16);
  }
  explicit operator float() const {
    const uint32_t whole = uint32_t{bits} << 16;
    float x;
    std::memcpy(&x, &whole, sizeof x);
    return x;
  }
  uint16_t bits;
};

struct uint3 {
  uint x, y, z;
};

// Position has a thread's indices, under the names of Metal's attributes.
struct Position {
  uint3 thread_position_in_grid, threadgroup_position_in_grid, thread_position_in_threadgroup;
  uint simdgroup_index_in_threadgroup, thread_index_in_simdgroup;
};

// Runs a kernel for every thread of the grid, in threadgroups as dispatchThreads makes
// them. Throws std::logic_error if threads wait for others that never come. The order
// of threads follows from seed.
void launch(uint3 grid, uint3 threadgroup, uint64_t seed,
            const std::function<void(const Position &)> &kernel);

// Returns the threadgroup's array of so many bytes: the same one for the calls that
// its threads make in the same place of their sequence.
void *shared_bytes(size_t bytes);

template <typename T>
T *shared(size_t size) {
  return static_cast<T *>(shared_bytes(size * sizeof(T)));
}

void barrier();
float sum_of_lanes(float x);
float shuffle_xor(float x, uint mask);
// d = a b + c, for the two elements of 8x8 matrices that each thread holds.
void multiply_accumulate(float *d, const float *a, const float *b, const float *c);

} // namespace emulator

namespace metal {

using std::abs;
using std::exp;
using std::exp2;
using std::fma;
using std::max;
using std::min;
inline float max(float a, float b) { return std::fmax(a, b); }
inline float min(float a, float b) { return std::fmin(a, b); }
namespace precise {
inline float rsqrt(float x) { return 1.0f / std::sqrt(x); }
} // namespace precise

inline float simd_sum(float x) { return emulator::sum_of_lanes(x); }
inline float simd_shuffle_xor(float x, ushort mask) { return emulator::shuffle_xor(x, mask); }

enum class mem_flags { mem_threadgroup };
inline void threadgroup_barrier(mem_flags) { emulator::barrier(); }

template <typename T, int ROWS, int COLUMNS>
struct simdgroup_matrix;
template <>
struct simdgroup_matrix<float, 8, 8> {
  float *thread_elements() { return elements; }
  float elements[2];
};
using Matrix8 = simdgroup_matrix<float, 8, 8>;
inline void simdgroup_multiply_accumulate(Matrix8 &d, Matrix8 &a, Matrix8 &b, Matrix8 &c) {
  emulator::multiply_accumulate(d.elements, a.elements, b.elements, c.elements);
}

} // namespace metal

// No header may be included behind these.
#define device
#define constant
#define threadgroup
#define SHARED(type, name, size) type *name = emulator::shared<type>(size)
