#include "graph.h"

#include "../cpu/profile.h"
#include "evaluator.h"
#include "layer_ops.h"
#include "ops.h"

namespace mlxrank {

namespace {

std::unique_ptr<LayerOps> layer_ops(const Model &model, const Variant &variant, const Batch &batch,
                                    mlx_stream stream) {
#ifdef MLXRANK_CPU_KERNELS
  if (model.fused) {
    return fused_ops(model, batch, stream);
  }
#endif
  return unfused_ops(model, variant, batch, stream);
}

// A map of arrays by name that frees itself.
struct ArrayMap {
  ArrayMap() : handle(mlx_map_string_to_array_new()) {}
  ~ArrayMap() { mlx_map_string_to_array_free(handle); }
  ArrayMap(const ArrayMap &) = delete;
  mlx_map_string_to_array handle;
};

} // namespace

Array forward(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream,
              std::vector<Activation> *activations) {
  const auto ops = layer_ops(model, variant, batch, stream);
  const Ops common(stream);
  auto barrier = [&](const Array &x) {
    if (model.fused) {
      const int64_t before = cpu::recording ? cpu::clock_ns() : 0;
      eval({&x});
      if (cpu::recording) {
        cpu::recording->interrupted(cpu::clock_ns() - before);
      }
    }
  };
  auto record = [&](const std::string &name, const Array &x) {
    if (activations != nullptr) {
      activations->push_back({name, common.contiguous(common.astype(x, MLX_FLOAT32))});
    }
  };
  Array x = ops->embed();
  record("embeddings", x);
  barrier(x);
  for (size_t i = 0; i < model.layers.size(); i++) {
    const Layer &l = model.layers[i];
    const std::string name = "encoder.layer." + std::to_string(i);
    Array attended;
    if (i + 1 < model.layers.size()) {
      attended = ops->attention(ops->linear(l.qkv, x));
    } else {
      // The last layer computes only the [CLS] rows, because the pooler reads no
      // others. Every token is still a key and a value.
      Array cls = ops->first_tokens(x);
      attended = ops->attention_first(ops->linear(l.query, cls), ops->linear(l.key_value, x));
      x = std::move(cls);
    }
    record(name + ".attention.self", attended);
    x = ops->attention_output(l, attended, x);
    record(name + ".attention", x);
    x = ops->feed_forward(l, x);
    record(name, x);
    if (i + 1 < model.layers.size()) {
      barrier(x);
    }
  }
  x = common.astype(x, MLX_FLOAT32);
  x = common.tanh(ops->linear(model.pooler, x));
  record("pooler", x);
  Array logits = common.contiguous(ops->linear(model.classifier, x));
  record("classifier", logits);
  return logits;
}

void write_activations(const Model &model, const Variant &variant, const Batch &batch,
                       const std::string &file) {
  run_for(model, [&](mlx_stream stream) {
    std::vector<Activation> activations;
    forward(model, variant, batch, stream, &activations);
    const ArrayMap map;
    for (const Activation &a : activations) {
      check(mlx_map_string_to_array_insert(map.handle, a.name.c_str(), a.values), "insert");
    }
    mlx_map_string_to_string metadata = mlx_map_string_to_string_new();
    const int status = mlx_save_safetensors(file.c_str(), map.handle, metadata);
    mlx_map_string_to_string_free(metadata);
    check(status, "save activations");
  });
}

} // namespace mlxrank
