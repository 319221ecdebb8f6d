// Every kernel with a signature as MLX writes it, for each type and for the template
// arguments that models use, so that Metal's compiler sees them before a user does:
//
//   xcrun metal -std=metal3.1 -Wall -Wextra -c all.metal -o all.air
#include <metal_stdlib>
using namespace metal;

#define SHARED(type, name, size) threadgroup type name[size]
#include "activation.metal"
#include "add_layer_norm.metal"
#include "attention.metal"
#include "attention_first.metal"
#include "bodies.h"

template <typename T, int ACTIVATION>
[[kernel]] void activation_kernel(const device T *x [[buffer(0)]],
                                  const constant int *x_shape [[buffer(1)]],
                                  device T *y [[buffer(2)]],
                                  uint3 thread_position_in_grid [[thread_position_in_grid]]) {
  ACTIVATION_BODY
}

template <typename T, int RUNS>
[[kernel]] void add_layer_norm_kernel(
    const device T *x [[buffer(0)]], const constant int *x_shape [[buffer(1)]],
    const device T *residual [[buffer(2)]], const device T *weight [[buffer(3)]],
    const device T *bias [[buffer(4)]], const constant float &epsilon [[buffer(5)]],
    device T *y [[buffer(6)]], uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
    uint3 thread_position_in_grid [[thread_position_in_grid]]){ADD_LAYER_NORM_BODY}

// MLX passes fewer than 8 numbers in the constant address space.
#define ATTENTION_KERNELS(name, space)                                                             \
  template <typename T, int HEAD, int WINDOW>                                                      \
  [[kernel]] void attention_##name(                                                                \
      const device T *qkv [[buffer(0)]], const constant int *qkv_shape [[buffer(1)]],              \
      const space int *tiles [[buffer(2)]], device T *y [[buffer(3)]],                             \
      uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],                      \
      uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],                                \
      uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],                     \
      uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {                       \
    ATTENTION_BODY                                                                                 \
  }                                                                                                \
  template <typename T, int HEAD>                                                                  \
  [[kernel]] void attention_first_##name(                                                          \
      const device T *query [[buffer(0)]], const constant int *query_shape [[buffer(1)]],          \
      const device T *key_value [[buffer(2)]], const space int *starts [[buffer(3)]],              \
      device T *y [[buffer(4)]],                                                                   \
      uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],                      \
      uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],                                \
      uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {                       \
    ATTENTION_FIRST_BODY                                                                           \
  }
ATTENTION_KERNELS(of_few, constant) ATTENTION_KERNELS(of_many, device)

#define INSTANTIATE(host, ...)                                                                     \
  template [[host_name(host)]] [[kernel]] decltype(__VA_ARGS__) __VA_ARGS__;
#define INSTANTIATE_TYPE(T)                                                                        \
  INSTANTIATE("gelu_" #T, activation_kernel<T, 0>)                                                 \
  INSTANTIATE("gelu_tanh_" #T, activation_kernel<T, 1>)                                            \
  INSTANTIATE("relu_" #T, activation_kernel<T, 2>)                                                 \
  INSTANTIATE("add_layer_norm_12_" #T, add_layer_norm_kernel<T, 12>)                               \
  INSTANTIATE("add_layer_norm_64_" #T, add_layer_norm_kernel<T, 64>)                               \
  INSTANTIATE("attention_32_few_" #T, attention_of_few<T, 32, 0>)                                  \
  INSTANTIATE("attention_64_few_" #T, attention_of_few<T, 64, 0>)                                  \
  INSTANTIATE("attention_32_" #T, attention_of_many<T, 32, 0>)                                     \
  INSTANTIATE("attention_64_" #T, attention_of_many<T, 64, 0>)                                     \
  INSTANTIATE("attention_64_window_" #T, attention_of_many<T, 64, 64>)                             \
  INSTANTIATE("attention_first_32_few_" #T, attention_first_of_few<T, 32>)                         \
  INSTANTIATE("attention_first_64_few_" #T, attention_first_of_few<T, 64>)                         \
  INSTANTIATE("attention_first_32_" #T, attention_first_of_many<T, 32>)                            \
  INSTANTIATE("attention_first_64_" #T, attention_first_of_many<T, 64>)
    INSTANTIATE_TYPE(float) INSTANTIATE_TYPE(half) INSTANTIATE_TYPE(bfloat)
