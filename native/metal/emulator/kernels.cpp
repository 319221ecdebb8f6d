// Compiles the kernels of this folder for the emulator.
#include "kernels.h"

#include "metal.h"
// Behind metal.h, which empties Metal's address spaces.
#include "../activation.metal"
#include "../add_layer_norm.metal"
#include "../attention.metal"
#include "../attention_first.metal"
#include "../bodies.h"
#include "kernels-inl.h"

namespace emulator {

namespace {

template <class Run>
void with_type(Type type, Run run) {
  switch (type) {
  case Type::float32:
    return run(float());
  case Type::float16:
    return run(half());
  case Type::bfloat16:
    return run(bfloat());
  }
}

} // namespace

void activation(Type type, int activation, const void *x, void *y, int rows, int columns,
                uint64_t seed) {
  with_type(type,
            [&](auto t) { run_activation<decltype(t)>(activation, x, y, rows, columns, seed); });
}

void add_layer_norm(Type type, const void *x, const void *residual, const void *weight,
                    const void *bias, float epsilon, void *y, int rows, int columns, int runs,
                    uint64_t seed) {
  with_type(type, [&](auto t) {
    run_add_layer_norm<decltype(t)>(x, residual, weight, bias, epsilon, y, rows, columns, runs,
                                    seed);
  });
}

void attention(Type type, const void *qkv, const int32_t *tiles, void *y, int columns, int head,
               int window, int count, uint64_t seed) {
  with_type(type, [&](auto t) {
    run_attention<decltype(t)>(qkv, tiles, y, columns, head, window, count, seed);
  });
}

void attention_first(Type type, const void *query, const void *key_value, const int32_t *starts,
                     void *y, int pairs, int hidden, int head, uint64_t seed) {
  with_type(type, [&](auto t) {
    run_attention_first<decltype(t)>(query, key_value, starts, y, pairs, hidden, head, seed);
  });
}

} // namespace emulator
