// The Metal kernels, run by the emulator. Arrays have the type's format; seed decides
// the order of threads. ../bodies.h has the shapes.
#pragma once

#include <cstdint>

namespace emulator {

enum class Type { float32, float16, bfloat16 };

void activation(Type type, int activation, const void *x, void *y, int rows, int columns,
                uint64_t seed);
// runs comes from metal_kernels::norm_runs.
void add_layer_norm(Type type, const void *x, const void *residual, const void *weight,
                    const void *bias, float epsilon, void *y, int rows, int columns, int runs,
                    uint64_t seed);
// window is 0, small_window or large_window of kernels-inl.h.
void attention(Type type, const void *qkv, const int32_t *tiles, void *y, int columns, int head,
               int window, int count, uint64_t seed);
void attention_first(Type type, const void *query, const void *key_value, const int32_t *starts,
                     void *y, int pairs, int hidden, int head, uint64_t seed);

} // namespace emulator
