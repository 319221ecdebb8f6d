// The operations that the forward pass is written in. Two classes implement
// them: one calls mlx-c's operations, which run on any device (unfused graph);
// the other calls the kernels in ../cpu (fused graph). x is [n, hidden], a row
// for each token of the layout.
#pragma once

#include <memory>

#include "graph.h"

namespace mlxrank {

class LayerOps {
 public:
  virtual ~LayerOps() = default;

  // -> [n, embedding size], the normalised sum of each token's embeddings
  virtual Array embed() const = 0;
  // [n, in] -> [n, out], with bias
  virtual Array linear(const Linear &l, const Array &x) const = 0;
  // LayerNorm of each row
  virtual Array norm(const Norm &n, const Array &x) const = 0;
  // qkv [n, 3 hidden] -> [n, hidden]
  virtual Array attention(const Layer &l, const Array &qkv) const = 0;
  // x [n, hidden] -> [pairs, hidden], each pair's first row, [CLS]
  virtual Array first_tokens(const Array &x) const = 0;
  // query [pairs, hidden] of the first tokens, key_value [n, 2 hidden] -> [pairs, hidden]
  virtual Array attention_first(const Layer &l, const Array &query,
                                const Array &key_value) const = 0;
  // The two residual blocks of a layer, with the LayerNorm that comes after each, and
  // with the one before feed-forward.
  virtual Array attention_output(const Layer &l, const Array &attended, const Array &x) const = 0;
  virtual Array feed_forward(const Layer &l, const Array &x) const = 0;
  // x [n, hidden] float32 -> [pairs, hidden], pooled in one way of mlxrank_config
  virtual Array pool(int32_t way, const Array &x) const = 0;
};

// The arguments must outlive the operations.
std::unique_ptr<LayerOps> unfused_ops(const Model &model, const Variant &variant,
                                      const Batch &batch, mlx_stream stream);
std::unique_ptr<LayerOps> fused_ops(const Model &model, const Batch &batch, mlx_stream stream);

} // namespace mlxrank
