// Kernels of the forward pass for CPUs, on packed tokens: the tokens of
// all pairs one after another, without padding. Each is compiled for several
// instruction sets and runs as the best one the processor has. They work on the
// calling thread and know nothing of MLX. All numbers are float32, but for the factors of
// products, which may be rounded to bfloat16; their sums are float32. A row's result does not depend on the
// rows beside it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxrank::cpu {

enum class Activation { none, gelu, gelu_tanh, relu };

// What the factors of a dense layer's products are.
enum class Factors { float32, bfloat16 };

// A dense layer's weight and bias in the order that products read them, made by
// pack: panels of panel_width() outputs, each the biases and then, for every
// input, the weights; zeros stand for outputs behind the last. Weights that are
// bfloat16 take half a float each: those of two inputs lie side by side.
struct Dense {
  const float *packed;
  int out, in;
  Factors factors;
};

struct Norm {
  const float *weight, *bias; // [size]
  float epsilon;
};

// The instruction set that runs, by Highway's name for it.
const char *target();

// Whether that has products of bfloat16, and the processor too.
bool has_bfloat16();

int panel_width();
size_t packed_size(int out, int in, Factors factors); // floats
void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed);

// y [rows, out] = activation(x W^T + bias), for x [rows, in].
void linear(const float *x, int rows, const Dense &dense, Activation activation, float *y);

// y [rows, out] = LayerNorm(x W^T + bias + residual).
void linear_add_norm(const float *x, int rows, const Dense &dense, const float *residual,
                     const Norm &norm, float *y);

// y [rows, hidden] = LayerNorm(outer(activation(inner(x))) + x). Rows are taken
// in tiles, so that what lies between the two layers stays in cache.
void feed_forward(const float *x, int rows, const Dense &inner, Activation activation,
                  const Dense &outer, const Norm &norm, float *y);

// Some of a layer's attention heads: first to last - 1, of count in all.
struct Heads {
  int count, size, first, last;
};

// Self-attention within each pair: for qkv [tokens, 3 hidden], of which query,
// key and value are the three parts, out [tokens, hidden].
void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads, float *out);

// The same for one query a pair: query [pairs, hidden], key_value
// [tokens, 2 hidden], out [pairs, hidden].
void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, float *out);

struct Embeddings {
  const float *words, *positions, *types; // rows of hidden
  int hidden;
  Norm norm;
};

// y [tokens, hidden]: the normalised sum of each token's three embeddings, its
// position counted within its pair.
void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y);

} // namespace mlxrank::cpu
