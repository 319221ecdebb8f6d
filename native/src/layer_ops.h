// The operations that the forward pass is written in. There are two tables of
// them: dense, of mlx-c's operations, which any device has, and packed, of the
// kernels in ../cpu. x is [n, hidden], a row for each token of the layout.
#pragma once

#include <memory>

#include "graph.h"

namespace mlxrank {

class LayerOps {
 public:
  virtual ~LayerOps() = default;

  // The normalised sum of each token's embeddings.
  virtual Array embed() const = 0;
  // [n, in] -> [n, out], with bias
  virtual Array linear(const Linear &l, const Array &x) const = 0;
  // qkv [n, 3 hidden] -> [n, hidden]
  virtual Array attention(const Array &qkv) const = 0;
  // The pairs' first rows, those of [CLS]: [pairs, hidden].
  virtual Array first_tokens(const Array &x) const = 0;
  // Attention of one query a pair: query [pairs, hidden], key_value
  // [n, 2 hidden] -> [pairs, hidden].
  virtual Array attention_first(const Array &query, const Array &key_value) const = 0;
  // The two residual blocks of a layer, each normalised: what follows attention,
  // and the feed-forward layers.
  virtual Array attention_output(const Layer &l, const Array &attended, const Array &x) const = 0;
  virtual Array feed_forward(const Layer &l, const Array &x) const = 0;
};

// The batch must outlive the operations.
std::unique_ptr<LayerOps> dense_ops(const Model &model, const Batch &batch, mlx_stream stream);
std::unique_ptr<LayerOps> packed_ops(const Model &model, const Batch &batch, mlx_stream stream);

} // namespace mlxrank
