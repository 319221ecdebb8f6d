// The forward pass as an MLX graph.
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

namespace mlxrank {

// The pairs of a shard. Dense: rows of width tokens, padded behind each pair's
// length. Packed: the pairs' tokens one after another.
struct Batch {
  std::vector<int32_t> ids; // dense [pairs, width], packed [tokens]
  std::vector<int32_t> type_ids; // likewise
  std::vector<int32_t> lengths; // [pairs]
  int width = 0; // dense only
  int parts = 1; // threads that share each kernel; packed only

  int pairs() const { return static_cast<int>(lengths.size()); }
};

// Logits of the batch, [pairs, labels] float32, whose layout must be the
// model's. On a GPU the whole pass is one unevaluated graph. On the CPU each
// layer is evaluated as it is built, since that backend allocates every output
// of a graph ahead of running it.
Array forward(const Model &model, const Batch &batch, mlx_stream stream);

} // namespace mlxrank
