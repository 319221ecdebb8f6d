// The kernels as MLX operations, in the form of mlx-c's functions: they return 0,
// or 1 after they called mlx-c's error handler. Arrays are float32, ids int32.
// Weights are a PackedLinear of kernels.h for the given factors.
#pragma once

#include "kernels.h"
#include "mlx/c/mlx.h"

namespace mlxrank::cpu {

// Packs a linear layer: weight [out, in] and bias [out], both evaluated.
int pack_linear(mlx_array *res, mlx_array weight, mlx_array bias, Factors factors);

// x [n, in] -> [n, out]
int op_linear(mlx_array *res, mlx_array x, mlx_array packed, int out, Factors factors,
              Activation activation, int parts, mlx_stream s);

// x [n, in], residual [n, out] -> [n, out]
int op_linear_add_norm(mlx_array *res, mlx_array x, mlx_array packed, mlx_array residual,
                       mlx_array norm_weight, mlx_array norm_bias, float epsilon, Factors factors,
                       int parts, mlx_stream s);

// x [n, hidden] -> [n, inner] -> [n, hidden]
int op_feed_forward(mlx_array *res, mlx_array x, mlx_array inner_packed, int inner,
                    Activation activation, mlx_array outer_packed, mlx_array norm_weight,
                    mlx_array norm_bias, float epsilon, Factors factors, int parts, mlx_stream s);

// qkv [tokens, 3 hidden], lengths [pairs] -> [tokens, hidden]
int op_attention(mlx_array *res, mlx_array qkv, mlx_array lengths, int heads, int parts,
                 mlx_stream s);

// query [pairs, hidden], key_value [tokens, 2 hidden], lengths [pairs]
// -> [pairs, hidden]
int op_attention_cls(mlx_array *res, mlx_array query, mlx_array key_value, mlx_array lengths,
                     int heads, int parts, mlx_stream s);

// ids, type_ids [tokens], lengths [pairs]; tables of rows of hidden
// -> [tokens, hidden]
int op_embed(mlx_array *res, mlx_array ids, mlx_array type_ids, mlx_array lengths, mlx_array words,
             mlx_array positions, mlx_array types, mlx_array norm_weight, mlx_array norm_bias,
             float epsilon, mlx_stream s);

} // namespace mlxrank::cpu
