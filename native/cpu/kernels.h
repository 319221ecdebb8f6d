// CPU kernels of the forward pass, in the unpadded layout: the tokens of all
// pairs end to end. Each kernel is compiled for several instruction sets; the
// best one that the processor has runs. Kernels run on the calling thread and do
// not use MLX. All numbers are float32, except that the factors of a GEMM may be
// rounded to bfloat16; its sums are float32. A row's result does not depend on
// other rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxrank::cpu {

enum class Activation { none, gelu, gelu_tanh, relu };

// The number format of a GEMM's factors.
enum class Factors { float32, bfloat16 };

// A linear layer's weight and bias in the order that the GEMM reads them. pack
// makes panels of panel_width() outputs: the biases first, then for every input
// the weights, with zeros after the last output. A bfloat16 weight takes half a
// float: the weights of two inputs are side by side.
struct PackedLinear {
  const float *packed;
  int out, in;
  Factors factors;
};

struct Norm {
  const float *weight, *bias; // [size]
  float epsilon;
};

// Returns Highway's name of the instruction set that runs.
const char *target();

// Reports whether the processor, and that instruction set, multiply bfloat16.
bool has_bfloat16();

int panel_width();
size_t packed_size(int out, int in, Factors factors); // floats
void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed);

// y [rows, out] = activation(x W^T + bias), for x [rows, in].
void linear(const float *x, int rows, const PackedLinear &layer, Activation activation, float *y);

// y [rows, out] = LayerNorm(x W^T + bias + residual).
void linear_add_norm(const float *x, int rows, const PackedLinear &layer, const float *residual,
                     const Norm &norm, float *y);

// y [rows, hidden] = LayerNorm(outer(activation(inner(x))) + x). Rows are computed
// in tiles, so that the results of inner stay in cache.
void feed_forward(const float *x, int rows, const PackedLinear &inner, Activation activation,
                  const PackedLinear &outer, const Norm &norm, float *y);

// A range of a layer's count attention heads: first to last - 1.
struct Heads {
  int count, size, first, last;
};

// Self-attention within each pair: qkv [tokens, 3 hidden] holds query, key and
// value; out is [tokens, hidden].
void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads, float *out);

// Attention of one query per pair: query [pairs, hidden], key_value
// [tokens, 2 hidden], out [pairs, hidden].
void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, float *out);

struct Embeddings {
  const float *words, *positions, *types; // rows of hidden
  int hidden;
  Norm norm;
};

// y [tokens, hidden] = LayerNorm of the sum of each token's three embeddings.
// Positions count from 0 within each pair.
void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y);

} // namespace mlxrank::cpu
