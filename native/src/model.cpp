#include "model.h"

#include <cmath>
#include <cstdlib>
#include <map>
#include <string>

#include "evaluator.h"
#include "ops.h"
#ifdef MLXRANK_CPU_KERNELS
#include "../cpu/primitives.h"
#endif

namespace mlxrank {

namespace {

using Shape = std::vector<int64_t>;

std::string text(const Shape &shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); i++) {
    out += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return out + "]";
}

int64_t bytes_of(int32_t dtype) { return dtype == MLXRANK_FLOAT32 ? 4 : 2; }

void check_dtype(int32_t dtype, const std::string &what) {
  if (dtype < MLXRANK_FLOAT32 || dtype > MLXRANK_BFLOAT16) {
    invalid(what + ": dtype " + std::to_string(dtype) + " is unknown");
  }
}

void check_range(const char *name, int64_t value, int64_t least, int64_t most) {
  if (value < least || value > most) {
    invalid("config: " + std::string(name) + " is " + std::to_string(value) + ", want " +
            std::to_string(least) + " to " + std::to_string(most));
  }
}

void check_config(const mlxrank_config &c) {
  constexpr int64_t most = 1 << 24; // the product of two sizes fits into int64
  check_range("vocab_size", c.vocab_size, 1, most);
  check_range("hidden_size", c.hidden_size, 1, most);
  check_range("layers", c.layers, 1, 1024);
  check_range("heads", c.heads, 1, c.hidden_size);
  check_range("intermediate_size", c.intermediate_size, 1, most);
  check_range("max_positions", c.max_positions, 1, most);
  check_range("type_vocab_size", c.type_vocab_size, 1, most);
  check_range("labels", c.labels, 1, most);
  check_range("activation", c.activation, MLXRANK_GELU, MLXRANK_RELU);
  check_dtype(c.dtype, "config");
  if (c.hidden_size % c.heads != 0) {
    invalid("config: hidden_size " + std::to_string(c.hidden_size) +
            " is not a multiple of heads " + std::to_string(c.heads));
  }
  if (!(c.layer_norm_eps > 0) || !std::isfinite(c.layer_norm_eps)) {
    invalid("config: layer_norm_eps is not a positive number");
  }
}

// The caller's tensors by name. take returns them as arrays of the model's dtype.
class Weights {
 public:
  Weights(const mlxrank_tensor *tensors, int32_t count, const Ops &ops, mlx_dtype dtype)
      : ops_(ops), dtype_(dtype) {
    for (int32_t i = 0; i < count; i++) {
      if (tensors[i].name == nullptr || !by_name_.emplace(tensors[i].name, &tensors[i]).second) {
        invalid("tensor " + std::to_string(i) + ": name missing or given twice");
      }
    }
  }

  Array take(const std::string &name, const Shape &shape) const {
    return take(name, shape, dtype_);
  }

  Array take(const std::string &name, const Shape &shape, mlx_dtype dtype) const {
    auto found = by_name_.find(name);
    if (found == by_name_.end()) {
      invalid("tensor " + name + " " + text(shape) + " is missing");
    }
    const mlxrank_tensor &t = *found->second;
    check_tensor(t, name, shape);
    std::vector<int> dims(shape.begin(), shape.end());
    mlx_array handle = mlx_array_new_data(t.data, dims.data(), t.rank, mlx_dtype_of(t.dtype));
    check(handle.ctx == nullptr, "new array");
    Array array(handle);
    return mlx_dtype_of(t.dtype) == dtype ? std::move(array) : ops_.astype(array, dtype);
  }

  Linear linear(const std::string &name, int64_t out, int64_t in) const {
    return {take(name + ".weight", {out, in}), take(name + ".bias", {out}), static_cast<int>(out)};
  }

  Linear float32_linear(const std::string &name, int64_t out, int64_t in) const {
    return {take(name + ".weight", {out, in}, MLX_FLOAT32),
            take(name + ".bias", {out}, MLX_FLOAT32), static_cast<int>(out), true};
  }

  Norm norm(const std::string &name, int64_t size) const {
    return {take(name + ".weight", {size}), take(name + ".bias", {size})};
  }

 private:
  static void check_tensor(const mlxrank_tensor &t, const std::string &name, const Shape &shape) {
    check_dtype(t.dtype, "tensor " + name);
    if (t.rank != 1 && t.rank != 2) {
      invalid("tensor " + name + ": rank " + std::to_string(t.rank) + ", want 1 or 2");
    }
    Shape found(t.shape, t.shape + t.rank);
    if (found != shape) {
      invalid("tensor " + name + ": shape " + text(found) + ", want " + text(shape));
    }
    int64_t want = bytes_of(t.dtype);
    for (int64_t d : shape) {
      want *= d;
    }
    if (t.data == nullptr || t.bytes != want) {
      invalid("tensor " + name + ": " + std::to_string(t.bytes) + " bytes, want " +
              std::to_string(want));
    }
  }

  const Ops &ops_;
  mlx_dtype dtype_;
  std::map<std::string, const mlxrank_tensor *> by_name_;
};

Linear fuse(const Ops &ops, std::initializer_list<const Linear *> parts) {
  std::vector<const Array *> weights, biases;
  for (const Linear *part : parts) {
    weights.push_back(&part->weight);
    biases.push_back(&part->bias);
  }
  Linear fused{ops.concatenate(weights), ops.concatenate(biases), 0, false};
  fused.out = fused.bias.dim(0);
  eval({&fused.weight, &fused.bias});
  return fused;
}

// Packs the weights for the kernels, one layer at a time, so that at most one is
// in memory twice.
void pack(Linear &l, int32_t dtype) {
#ifdef MLXRANK_CPU_KERNELS
  eval({&l.weight, &l.bias});
  const bool half = dtype == MLXRANK_BFLOAT16 && !l.float32;
  l.weight = checked_call("pack", cpu::pack_linear, mlx_array(l.weight), mlx_array(l.bias),
                          half ? cpu::Factors::bfloat16 : cpu::Factors::float32);
  l.bias = Array();
#else
  (void)l;
  (void)dtype;
#endif
}

void pack(Layer &l, bool last, int32_t dtype) {
  for (Linear *part : {&l.attention_output, &l.intermediate, &l.output}) {
    pack(*part, dtype);
  }
  if (last) {
    pack(l.query, dtype);
    pack(l.key_value, dtype);
  } else {
    pack(l.qkv, dtype);
  }
}

Layer load_layer(const Weights &w, const Ops &ops, const mlxrank_config &c, int index) {
  const std::string at = "encoder.layer." + std::to_string(index) + ".";
  const int64_t hidden = c.hidden_size, inner = c.intermediate_size;
  Linear query = w.linear(at + "attention.self.query", hidden, hidden);
  Linear key = w.linear(at + "attention.self.key", hidden, hidden);
  Linear value = w.linear(at + "attention.self.value", hidden, hidden);
  Layer layer;
  if (index + 1 == c.layers) {
    layer.key_value = fuse(ops, {&key, &value});
    layer.query = std::move(query);
  } else {
    layer.qkv = fuse(ops, {&query, &key, &value});
  }
  layer.attention_output = w.linear(at + "attention.output.dense", hidden, hidden);
  layer.attention_norm = w.norm(at + "attention.output.LayerNorm", hidden);
  layer.intermediate = w.linear(at + "intermediate.dense", inner, hidden);
  layer.output = w.linear(at + "output.dense", hidden, inner);
  layer.output_norm = w.norm(at + "output.LayerNorm", hidden);
  return layer;
}

Constants load_constants(const Ops &ops, mlx_dtype dtype) {
  auto scalar = [&](double value) {
    float single = static_cast<float>(value);
    return ops.astype(array_of(&single, {}, MLX_FLOAT32), dtype);
  };
  return {scalar(0.5),      scalar(1.0),
          scalar(0.0),      scalar(1.0 / std::sqrt(2.0)),
          scalar(0.044715), scalar(std::sqrt(2.0 / M_PI))};
}

// The sources of a layer's weights are freed once it is evaluated, so that at most
// one layer is in memory twice.
void eval_layer(const Layer &l) {
  eval({&l.attention_output.weight, &l.attention_output.bias, &l.attention_norm.weight,
        &l.attention_norm.bias, &l.intermediate.weight, &l.intermediate.bias, &l.output.weight,
        &l.output.bias, &l.output_norm.weight, &l.output_norm.bias, &l.query.weight,
        &l.query.bias});
}

void eval_all(const Model &m) {
  eval({&m.word_embeddings, &m.position_embeddings, &m.type_embeddings, &m.embedding_norm.weight,
        &m.embedding_norm.bias, &m.pooler.weight, &m.pooler.bias, &m.classifier.weight,
        &m.classifier.bias});
  for (const Layer &l : m.layers) {
    eval_layer(l);
  }
  const Constants &c = m.constants;
  eval({&c.half, &c.one, &c.zero, &c.rsqrt2, &c.gelu_cubic, &c.gelu_scale});
}

void load(Model &m, const mlxrank_tensor *tensors, int32_t count, mlx_stream stream) {
  const mlxrank_config &c = m.config;
  Ops ops(stream);
  Weights w(tensors, count, ops, m.fused ? MLX_FLOAT32 : mlx_dtype_of(c.dtype));
  m.word_embeddings = w.take("embeddings.word_embeddings.weight", {c.vocab_size, c.hidden_size});
  m.position_embeddings =
      w.take("embeddings.position_embeddings.weight", {c.max_positions, c.hidden_size});
  m.type_embeddings =
      w.take("embeddings.token_type_embeddings.weight", {c.type_vocab_size, c.hidden_size});
  m.embedding_norm = w.norm("embeddings.LayerNorm", c.hidden_size);
  for (int i = 0; i < c.layers; i++) {
    m.layers.push_back(load_layer(w, ops, c, i));
    if (m.fused) {
      pack(m.layers.back(), i + 1 == c.layers, c.dtype);
    } else {
      eval_layer(m.layers.back());
    }
  }
  m.pooler = w.float32_linear("pooler.dense", c.hidden_size, c.hidden_size);
  m.classifier = w.float32_linear("classifier", c.labels, c.hidden_size);
  if (m.fused) {
    pack(m.pooler, c.dtype);
    pack(m.classifier, c.dtype);
  }
  m.constants = load_constants(ops, mlx_dtype_of(c.dtype));
  eval_all(m);
  // MLX keeps the freed sources for reuse, and no later array has their sizes.
  // Buffers in use, of other models too, are not in its cache.
  check(mlx_clear_cache(), "clear cache");
}

void free_on_device(const Model *model) {
  run_for(*model, [model](mlx_stream) { delete model; });
}

#ifdef MLXRANK_CPU_KERNELS
// MLXRANK_PLAIN_GRAPH is the older name, read for one release more.
bool unfused_asked() {
  for (const char *name : {"MLXRANK_UNFUSED_GRAPH", "MLXRANK_PLAIN_GRAPH"}) {
    const char *value = std::getenv(name);
    if (value != nullptr && *value != 0) {
      return std::string(value) == "1";
    }
  }
  return false;
}
#endif

} // namespace

bool uses_kernels(const mlxrank_config &config) {
#ifdef MLXRANK_CPU_KERNELS
  const bool covered =
      config.dtype == MLXRANK_FLOAT32 || (config.dtype == MLXRANK_BFLOAT16 && cpu::has_bfloat16());
  return config.device == MLXRANK_CPU && covered && !unfused_asked();
#else
  (void)config;
  return false;
#endif
}

const char *kernels_of(const Model &model) {
#ifdef MLXRANK_CPU_KERNELS
  if (model.fused) {
    return cpu::target();
  }
#endif
  (void)model;
  return "MLX";
}

mlx_dtype mlx_dtype_of(int32_t dtype) {
  switch (dtype) {
  case MLXRANK_FLOAT16:
    return MLX_FLOAT16;
  case MLXRANK_BFLOAT16:
    return MLX_BFLOAT16;
  default:
    return MLX_FLOAT32;
  }
}

std::shared_ptr<const Model> open_model(const mlxrank_config &config, const mlxrank_tensor *tensors,
                                        int32_t count) {
  check_config(config);
  if (count < 0 || (count > 0 && tensors == nullptr)) {
    invalid("tensors are missing");
  }
  std::shared_ptr<Model> model(new Model(config), free_on_device);
  run_for(*model, [&](mlx_stream stream) { load(*model, tensors, count, stream); });
  return model;
}

} // namespace mlxrank
