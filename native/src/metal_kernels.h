// Our Metal kernels as operations on arrays of float32, float16 or bfloat16; see
// ../metal/README.md. They run on a GPU. In a build for tests, with
// MLXRANK_METAL_EMULATOR, the same sources run on the CPU and not on a GPU.
#pragma once

#include "array.h"
#include "mlxrank.h"

namespace mlxrank::metal_kernels {

// Reports whether this build has the kernels for the model's device and sizes.
bool support(const mlxrank_config &config);

// Reports whether the attention kernels support a head size.
inline bool has_attention(int head_size) { return head_size == 32 || head_size == 64; }

// Queries that one threadgroup of attention computes.
constexpr int tile_rows = 32;

// Returns how many numbers of a row a thread of add_layer_norm computes, at most. Few
// values make few kernels to compile.
inline int norm_runs(int columns) {
  for (int runs : {2, 4, 8, 12, 16, 24, 32}) {
    if (runs * 32 >= columns) {
      return runs;
    }
  }
  return 64;
}
constexpr int most_norm_columns = 64 * 32;

// Returns x [n, columns] with an activation of mlxrank_config applied, computed in
// float32.
Array activation(const Array &x, int32_t activation, mlx_stream stream);

// Returns LayerNorm(x + residual) of each row, computed in float32; x and residual
// are [n, hidden], epsilon is a float32 scalar.
Array add_layer_norm(const Array &x, const Array &residual, const Array &weight, const Array &bias,
                     const Array &epsilon, mlx_stream stream);

// Self-attention of pairs in the unpadded layout: qkv [n, 3 hidden] -> [n, hidden].
// tiles [count, 3] int32 has a row for each tile of at most tile_rows queries of one
// pair: the tile's first row, the pair's first row, and the row behind the pair. Rows
// of no pair are not computed: their results are whatever the memory holds.
Array attention(const Array &qkv, const Array &tiles, int heads, mlx_stream stream);

// Attention of one query per pair: query [pairs, hidden], key_value [n, 2 hidden] ->
// [pairs, hidden]. starts [pairs + 1] int32 has each pair's first row, and the row
// behind the last pair.
Array attention_first(const Array &query, const Array &key_value, const Array &starts, int heads,
                      mlx_stream stream);

} // namespace mlxrank::metal_kernels
