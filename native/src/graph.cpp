#include "graph.h"

#include "../cpu/profile.h"
#include "layer_ops.h"
#include "ops.h"

namespace mlxrank {

namespace {

std::unique_ptr<LayerOps> layer_ops(const Model &model, const Batch &batch, mlx_stream stream) {
#ifdef MLXRANK_CPU_KERNELS
  if (model.packed) {
    return packed_ops(model, batch, stream);
  }
#endif
  return dense_ops(model, batch, stream);
}

} // namespace

Array forward(const Model &model, const Batch &batch, mlx_stream stream) {
  const auto ops = layer_ops(model, batch, stream);
  auto barrier = [&](const Array &x) {
    if (model.config.device == MLXRANK_CPU) {
      const int64_t before = cpu::recording ? cpu::clock_ns() : 0;
      eval({&x});
      if (cpu::recording) {
        cpu::recording->interrupted(cpu::clock_ns() - before);
      }
    }
  };
  Array x = ops->embed();
  barrier(x);
  for (size_t i = 0; i + 1 < model.layers.size(); i++) {
    const Layer &l = model.layers[i];
    x = ops->attention_output(l, ops->attention(ops->linear(l.qkv, x)), x);
    x = ops->feed_forward(l, x);
    barrier(x);
  }
  // The last layer for the [CLS] rows alone, the only ones the pooler reads.
  // Every token is still a key and a value.
  const Layer &last = model.layers.back();
  Array cls = ops->first_tokens(x);
  Array attended = ops->attention_first(ops->linear(last.query, cls),
                                        ops->linear(last.key_value, x));
  cls = ops->attention_output(last, attended, cls);
  cls = ops->feed_forward(last, cls);
  const Ops plain(stream);
  Array logits = ops->linear(model.classifier, plain.tanh(ops->linear(model.pooler, cls)));
  return plain.contiguous(plain.astype(logits, MLX_FLOAT32));
}

} // namespace mlxrank
