// CPU kernels of the forward pass, in the unpadded layout: the tokens of all
// pairs end to end. Each kernel is compiled for several instruction sets; the
// best one that the processor has runs. Kernels run on the calling thread and do
// not use MLX. All numbers are float32, except that the factors of a GEMM may be
// rounded to bfloat16, with sums in float32, or to 8 bits. A row's result does not depend on
// other rows.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mlxrank::cpu {

enum class Activation { none, gelu, gelu_tanh, relu };

// The number format of a GEMM's factors. With int8, and with ordered_float32 in the head, a
// model's results have the same bits on every instruction set.
enum class Factors {
  float32,
  bfloat16,
  // Small weights of 8 or 4 bits in groups of 32 or 64, see small.h. The rest is float32.
  small8_32,
  small8_64,
  small4_32,
  small4_64,
  int8,
  ordered_float32
};

struct SmallMatrix;

// A linear layer's weight and bias in the order that the GEMM reads them. pack
// makes panels of panel_width() outputs: the biases first, then for every input
// the weights, with zeros after the last output. A bfloat16 weight takes half a
// float: the weights of two inputs are side by side. int8_linear-inl.h has the other layouts.
struct PackedLinear {
  const float *packed;
  int out, in;
  Factors factors;
};

struct Norm {
  const float *weight, *bias; // [size]
  float epsilon;

  bool empty() const { return weight == nullptr; }
};

// The feed-forward block of an encoder layer: y = LayerNorm(outer(activation(inner(x))) + x),
// or with pre_norm y = outer(activation(inner(LayerNorm(x)))) + x.
struct FeedForward {
  PackedLinear inner;
  // The outputs of inner are a's and b's, and outer gets activation(a) * b. Each
  // panel has panel_width() / 2 a's, then as many b's.
  bool gated;
  Activation activation;
  PackedLinear outer;
  Norm norm;
  bool pre_norm;
};

// Returns Highway's name of the instruction set that runs.
const char *target();

// Reports whether the processor, and that instruction set, multiply bfloat16.
bool has_bfloat16();

int panel_width(Factors factors);
size_t packed_size(int out, int in, Factors factors); // floats
void pack(const float *weight, const float *bias, int out, int in, Factors factors, float *packed);

// y [rows, out] = activation(x W^T + bias), for x [rows, in].
void linear(const float *x, int rows, const PackedLinear &layer, Activation activation, float *y);

// y [rows, out] = LayerNorm(x W^T + bias + residual); without LayerNorm if norm is empty.
void linear_add_norm(const float *x, int rows, const PackedLinear &layer, const float *residual,
                     const Norm &norm, float *y);

// y [rows, hidden] for x [rows, hidden]. Rows are computed in tiles, so that the results
// of inner stay in cache.
void feed_forward(const float *x, int rows, const FeedForward &block, float *y);

// y [rows, columns] = LayerNorm(x).
void layer_norm(const float *x, int rows, int columns, const Norm &norm, float *y);

// A range of a layer's count attention heads: first to last - 1.
struct Heads {
  int count, size, first, last;
};

// Positions make attention depend on them. A token attends to window tokens on each side, or
// to its whole pair if window is 0. cos and sin, rows of head size for each position,
// rotate a head's query or key x: it becomes x cos + swapped(x) sin, where swapped
// exchanges the halves of x. They are null if nothing is rotated.
struct Positions {
  int window;
  const float *cos, *sin;
};

// Self-attention within each pair: qkv [tokens, 3 hidden] holds query, key and
// value; out is [tokens, hidden]. With Factors::int8 the factors have 16 bits.
void attention(const float *qkv, const int32_t *lengths, int pairs, const Heads &heads,
               const Positions &positions, Factors factors, float *out);

// Attention of each pair's first token: query [pairs, hidden], key_value
// [tokens, 2 hidden], out [pairs, hidden].
void attention_cls(const float *query, const float *key_value, const int32_t *lengths, int pairs,
                   const Heads &heads, const Positions &positions, Factors factors, float *out);

struct Embeddings {
  const float *words, *types; // rows of size
  const float *positions; // likewise; null if there are none
  int first_position; // row of positions of each pair's first token; see mlxrank_config
  int size;
  Norm norm;
  const SmallMatrix *small_words = nullptr; // instead of words, if not null
};

// y [tokens, size] = LayerNorm of the sum of each token's embeddings.
void embed(const Embeddings &embeddings, const int32_t *ids, const int32_t *type_ids,
           const int32_t *lengths, int pairs, float *y);

// The ways to pool the tokens of a pair. mean_sqrt divides their sum by the square root of
// their number, weighted_mean weights the token at position i by i + 1.
enum class Pooling { cls, max, mean, mean_sqrt, weighted_mean, last };

// y [pairs, hidden], pooled from x [tokens, hidden].
void pool(const float *x, const int32_t *lengths, int pairs, int hidden, Pooling way, float *y);

} // namespace mlxrank::cpu
