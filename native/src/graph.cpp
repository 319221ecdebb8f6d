#include "graph.h"

#include <algorithm>

#include "../cpu/profile.h"
#include "activation.h"
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

// Evaluates x if the graph is evaluated layer by layer.
void barrier(const Model &model, const Batch &batch, const Array &x) {
  const bool on_cpu = model.config.device == MLXRANK_CPU;
  if (model.fused || (on_cpu && batch.width > long_width)) {
    const int64_t before = cpu::is_timed() ? cpu::clock_ns() : 0;
    eval({&x});
    if (cpu::is_timed()) {
      cpu::recording->interrupted(cpu::clock_ns() - before);
    }
  }
}

// Lets matmuls count as the head's from here on. The fused graph's are counted when they are
// computed, so the encoder's must be.
void begin_head(const Model &model, const Array &x) {
  if (cpu::recording != nullptr && cpu::recording->matmuls != nullptr) {
    if (model.fused) {
      eval({&x});
    }
    cpu::recording->matmuls->begin_head();
  }
}

// Returns what the head reads of the encoder's x, [pairs, vectors * hidden] float32.
Array pooled(const Model &model, const LayerOps &layer, const Ops &ops, const Array &x) {
  std::vector<Array> vectors;
  std::vector<const Array *> parts;
  for (int32_t way = MLXRANK_POOL_CLS; way <= MLXRANK_POOL_LAST; way *= 2) {
    if (model.config.pooling & way) {
      vectors.push_back(layer.pool(way, x));
    }
  }
  for (const Array &v : vectors) {
    parts.push_back(&v);
  }
  return parts.size() == 1 ? std::move(vectors[0]) : ops.concatenate(parts, 1);
}

// Returns a step's result for x [pairs, in] float32.
Array head_step(const Model &model, const HeadStep &step, const LayerOps &layer, const Ops &ops,
                const Array &x) {
  if (!step.norm.empty()) {
    return ops.layer_norm(x, step.norm.weight, step.norm.bias, step.norm.epsilon);
  }
  Array y = layer.linear(step.dense, x);
  if (step.activation != MLXRANK_IDENTITY) {
    y = activate(ops, model.head_constants, step.activation, y);
  }
  return step.residual ? ops.add(y, x) : std::move(y);
}

} // namespace

Array forward(const Model &model, const Variant &variant, const Batch &batch, mlx_stream stream,
              std::vector<Activation> *activations) {
  const auto ops = layer_ops(model, variant, batch, stream);
  const Ops common(stream);
  auto record = [&](const std::string &name, const Array &x) {
    if (activations != nullptr) {
      activations->push_back({name, common.contiguous(common.astype(x, MLX_FLOAT32))});
    }
  };
  // The LayerNorm before attention is in the layers of a pre_norm model but the first,
  // since the embeddings are normalised.
  auto project = [&](const Layer &l, const Linear &to, const Array &x) {
    const bool normed = model.config.pre_norm && !l.attention_norm.empty();
    return normed ? ops->linear(to, ops->norm(l.attention_norm, x)) : ops->linear(to, x);
  };
  Array x = ops->embed();
  record("embeddings", x);
  if (!model.embeddings_project.weight.empty()) {
    x = ops->linear(model.embeddings_project, x);
    record("embeddings_project", x);
  }
  barrier(model, batch, x);
  for (size_t i = 0; i < model.layers.size(); i++) {
    const Layer &l = model.layers[i];
    const std::string name = "encoder.layer." + std::to_string(i);
    const bool last = i + 1 == model.layers.size();
    Array attended;
    if (last && model.first_rows()) {
      // The last layer computes only the [CLS] rows, because the head reads no
      // others. Every token is still a key and a value.
      Array cls = ops->first_tokens(x);
      attended = ops->attention_first(l, project(l, l.query, cls), project(l, l.key_value, x));
      x = std::move(cls);
    } else {
      attended = ops->attention(l, project(l, l.qkv, x));
    }
    record(name + ".attention.self", attended);
    x = ops->attention_output(l, attended, x);
    record(name + ".attention", x);
    x = ops->feed_forward(l, x);
    record(name, x);
    if (!last) {
      barrier(model, batch, x);
    }
  }
  if (model.config.pre_norm) {
    x = ops->norm(model.final_norm, x);
    record("encoder.LayerNorm", x);
  }
  x = common.astype(x, MLX_FLOAT32);
  begin_head(model, x);
  if (!model.first_rows()) {
    x = pooled(model, *ops, common, x);
    record("pooling", x);
  }
  for (const HeadStep &step : model.head) {
    x = head_step(model, step, *ops, common, x);
    record(step.name == "pooler.dense" ? "pooler" : step.name, x); // PyTorch's name in BERT
  }
  return common.contiguous(x);
}

void count_matmuls(const Model &model, const Variant &variant, mlxrank_matmuls *out) {
  // One pair, in the unfused graph of so many tokens that local attention is local.
  const int longest = std::min(model.config.max_positions, long_width);
  const int tokens = std::min(longest, model.fused ? 3 : std::max(3, model.config.window + 2));
  Batch batch;
  batch.ids.resize(tokens);
  batch.type_ids.resize(tokens);
  batch.lengths = {tokens};
  batch.width = variant.unpadded ? 0 : tokens;
  const auto recorder = std::make_shared<cpu::Recorder>();
  recorder->matmuls = std::make_unique<cpu::Matmuls>();
  run_for(model, [&](mlx_stream stream) {
    const cpu::Recording here(recorder.get());
    const Array logits = forward(model, variant, batch, stream);
    if (model.fused) {
      eval({&logits});
      check(mlx_synchronize(stream), "synchronize");
    }
  });
  const auto counts = recorder->matmuls->counts();
  if (counts.size() > MLXRANK_MATMULS) {
    throw Error(MLXRANK_MLX, "the graph has " + std::to_string(counts.size()) +
                                 " kinds of matmuls, at most " + std::to_string(MLXRANK_MATMULS) +
                                 " are known");
  }
  out->count = 0;
  for (const auto &[o, count] : counts) {
    out->kinds[out->count++] = {o.part, o.left, o.right, o.computed, o.bits, 0, count};
  }
}

void write_activations(const Model &model, const Variant &variant, const Batch &batch,
                       const std::string &file) {
  run_for(model, [&](mlx_stream stream) {
    std::vector<Activation> activations;
    forward(model, variant, batch, stream, &activations);
    const ArrayMap map;
    const int tokens = static_cast<int>(batch.ids.size());
    for (const Activation &a : activations) {
      // Without the rows of no pair that a variant computes.
      const Array values = Ops(stream).slice(a.values, 0, 0, std::min(tokens, a.values.dim(0)));
      check(mlx_map_string_to_array_insert(map.handle, a.name.c_str(), values), "insert");
    }
    mlx_map_string_to_string metadata = mlx_map_string_to_string_new();
    const int status = mlx_save_safetensors(file.c_str(), map.handle, metadata);
    mlx_map_string_to_string_free(metadata);
    check(status, "save activations");
  });
}

} // namespace mlxrank
