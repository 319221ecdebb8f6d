// The kernels as MLX operations, in the form of mlx-c's functions: they return 0,
// or 1 after they called mlx-c's error handler. Arrays are float32, ids int32.
// Weights are a PackedLinear of kernels.h for the given factors.
#pragma once

#include "kernels.h"
#include "mlx/c/mlx.h"

namespace mlxrank::cpu {

// Packs a linear layer: weight [out, in] and bias [out], both evaluated.
int pack_linear(mlx_array *res, mlx_array weight, mlx_array bias, Factors factors);

// Packs small weights: numbers [out, in * bits / 32] uint32, scales and biases [out, in /
// group], and the layer's bias [out], all evaluated.
int pack_small_linear(mlx_array *res, mlx_array numbers, mlx_array scales, mlx_array biases,
                      mlx_array bias, Factors factors);

// x [n, in] -> [n, out]
int op_linear(mlx_array *res, mlx_array x, mlx_array packed, int out, Factors factors,
              Activation activation, int parts, mlx_stream s);

// The arrays of a LayerNorm; without them there is none.
struct NormArrays {
  mlx_array weight, bias;
  float epsilon;
};

// x [n, in], residual [n, out] -> [n, out]
int op_linear_add_norm(mlx_array *res, mlx_array x, mlx_array packed, mlx_array residual,
                       NormArrays norm, Factors factors, int parts, mlx_stream s);

// The feed-forward block of a layer: its packed linear layers, and what else kernels.h's
// FeedForward has.
struct FeedForwardArrays {
  mlx_array inner_packed;
  int inner; // outputs, of a gated block with the zeros that fill panels
  bool gated;
  Activation activation;
  mlx_array outer_packed;
  int outer_in;
  NormArrays norm;
  bool pre_norm;
};

// x [n, hidden] -> [n, hidden]
int op_feed_forward(mlx_array *res, mlx_array x, FeedForwardArrays block, Factors factors,
                    int parts, mlx_stream s);

// x [n, hidden] -> [n, hidden]
int op_layer_norm(mlx_array *res, mlx_array x, NormArrays norm, int parts, mlx_stream s);

// Attention depends on positions by these; see Positions of kernels.h. Without rotary positions
// there are no arrays.
struct PositionArrays {
  int window;
  mlx_array cos, sin;
};

// qkv [tokens, 3 hidden], lengths [pairs] -> [tokens, hidden]
int op_attention(mlx_array *res, mlx_array qkv, mlx_array lengths, int heads,
                 PositionArrays positions, Factors factors, int parts, mlx_stream s);

// query [pairs, hidden], key_value [tokens, 2 hidden], lengths [pairs]
// -> [pairs, hidden]
int op_attention_cls(mlx_array *res, mlx_array query, mlx_array key_value, mlx_array lengths,
                     int heads, PositionArrays positions, Factors factors, int parts, mlx_stream s);

// Tables of rows of size. Without position embeddings there is no array.
struct EmbeddingArrays {
  const float *words; // outlives the operation
  const SmallMatrix *small_words; // instead of words, or null; outlives it too
  int size;
  mlx_array types, positions;
  int first_position;
  NormArrays norm;
};

// ids, type_ids [tokens], lengths [pairs] -> [tokens, embedding size]
int op_embed(mlx_array *res, mlx_array ids, mlx_array type_ids, mlx_array lengths,
             EmbeddingArrays embeddings, mlx_stream s);

// x [tokens, hidden], lengths [pairs] -> [pairs, hidden]
int op_pool(mlx_array *res, mlx_array x, mlx_array lengths, Pooling way, mlx_stream s);

} // namespace mlxrank::cpu
