// The forward pass as an MLX graph.
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

namespace mlxrank {

// A dense batch: rows pairs of width tokens, padded behind each pair's length.
struct Dense {
  int rows = 0;
  int width = 0;
  std::vector<int32_t> ids; // [rows, width]
  std::vector<int32_t> type_ids; // [rows, width]
  std::vector<int32_t> lengths; // [rows]
};

// Logits of the batch, [rows, labels] float32. On a GPU the whole pass is one
// unevaluated graph. On the CPU each layer is evaluated as it is built, since
// that backend allocates every output of a graph ahead of running it.
Array forward(const Model &model, const Dense &batch, mlx_stream stream);

} // namespace mlxrank
