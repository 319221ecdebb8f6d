#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "config.h"
#include "evaluator.h"
#include "faults.h"
#include "ops.h"
#include "weights.h"
#ifdef MLXRANK_CPU_KERNELS
#include "factors.h"
#endif

namespace mlxrank {

namespace {

// Evaluates a linear layer, and frees what it was made of.
void eval_linear(const Linear &l) { eval({&l.weight, &l.bias, &l.small.scales, &l.small.biases}); }

Linear fuse(const Ops &ops, std::initializer_list<const Linear *> parts) {
  auto joined = [&](auto member) {
    std::vector<const Array *> arrays;
    for (const Linear *part : parts) {
      arrays.push_back(&member(*part));
    }
    return arrays[0]->empty() ? Array() : ops.concatenate(arrays);
  };
  using L = const Linear &;
  Linear fused;
  fused.weight = joined([](L l) -> const Array & { return l.weight; });
  fused.bias = joined([](L l) -> const Array & { return l.bias; });
  fused.small.scales = joined([](L l) -> const Array & { return l.small.scales; });
  fused.small.biases = joined([](L l) -> const Array & { return l.small.biases; });
  fused.out = fused.bias.dim(0);
  eval_linear(fused);
  return fused;
}

// Packs the weights for the kernels, one layer at a time, so that at most one is
// in memory twice.
void pack(Linear &l, const mlxrank_config &c) {
#ifdef MLXRANK_CPU_KERNELS
  eval_linear(l);
  if (!l.small.empty()) {
    l.weight =
        checked_call("pack", cpu::pack_small_linear, mlx_array(l.weight), mlx_array(l.small.scales),
                     mlx_array(l.small.biases), mlx_array(l.bias), factors_of(c, l));
    l.bias = Array();
    l.small = Small();
    return;
  }
  l.weight = checked_call("pack", cpu::pack_linear, mlx_array(l.weight), mlx_array(l.bias),
                          factors_of(c, l));
  l.bias = Array();
#else
  (void)l;
  (void)c;
#endif
}

void pack(Layer &l, const mlxrank_config &c) {
  for (Linear *part :
       {&l.qkv, &l.query, &l.key_value, &l.attention_output, &l.intermediate, &l.output}) {
    if (!part->weight.empty()) {
      pack(*part, c);
    }
  }
}

#ifdef MLXRANK_CPU_KERNELS
// Returns a [2 n, columns] with the rows of its halves alternating: some of the first, as
// many of the second, and so on. Zeros fill the last turn.
Array take_turns(const Ops &ops, const Array &a, int some, int columns) {
  const int n = a.dim(0) / 2, turns = (n + some - 1) / some;
  const float none = 0;
  const Array zero = ops.astype(array_of(&none, {}, MLX_FLOAT32), mlx_array_dtype(a));
  Array halves = ops.pad(ops.reshape(a, {2, n, columns}), {1}, {turns * some - n}, zero);
  halves = ops.transpose(ops.reshape(halves, {2, turns, some, columns}), {1, 0, 2, 3});
  return ops.contiguous(ops.reshape(halves, {2 * turns * some, columns}));
}
#endif

// Orders the outputs of a gated layer as the kernel reads them: the numbers that it
// multiplies are in the two vectors of a panel.
void take_turns(const Ops &ops, Linear &l, const mlxrank_config &c) {
#ifdef MLXRANK_CPU_KERNELS
  const int lanes = cpu::panel_width(factors_of(c, l)) / 2;
  l.weight = take_turns(ops, l.weight, lanes, l.weight.dim(1));
  l.bias = ops.reshape(take_turns(ops, l.bias, lanes, 1), {l.weight.dim(0)});
  for (Array *part : {&l.small.scales, &l.small.biases}) {
    if (!part->empty()) {
      *part = take_turns(ops, *part, lanes, part->dim(1));
    }
  }
  l.out = l.weight.dim(0);
#else
  (void)ops;
  (void)l;
  (void)c;
#endif
}

Layer load_layer(const Weights &w, const Ops &ops, const Model &m, int index) {
  const mlxrank_config &c = m.config;
  const std::string at = "encoder.layer." + std::to_string(index) + ".";
  const int64_t hidden = c.hidden_size, inner = c.intermediate_size;
  Linear query = w.linear(at + "attention.self.query", hidden, hidden, c);
  Linear key = w.linear(at + "attention.self.key", hidden, hidden, c);
  Linear value = w.linear(at + "attention.self.value", hidden, hidden, c);
  Layer layer;
  if (index + 1 == c.layers && m.first_rows()) {
    layer.key_value = fuse(ops, {&key, &value});
    layer.query = std::move(query);
  } else {
    layer.qkv = fuse(ops, {&query, &key, &value});
  }
  layer.attention_output = w.linear(at + "attention.output.dense", hidden, hidden, c);
  layer.intermediate = w.linear(at + "intermediate.dense", c.gated ? 2 * inner : inner, hidden, c);
  layer.output = w.linear(at + "output.dense", hidden, inner, c);
  if (!c.pre_norm) {
    layer.attention_norm = w.norm(at + "attention.output.LayerNorm", hidden, c.layer_norm_eps);
    layer.output_norm = w.norm(at + "output.LayerNorm", hidden, c.layer_norm_eps);
  } else {
    if (index > 0) {
      layer.attention_norm = w.norm(at + "attention.LayerNorm", hidden, c.layer_norm_eps);
    }
    layer.output_norm = w.norm(at + "LayerNorm", hidden, c.layer_norm_eps);
  }
  layer.window = c.window > 0 && index % c.global_every != 0 ? c.window : 0;
  if (m.fused && c.gated) {
    take_turns(ops, layer.intermediate, c);
  }
  return layer;
}

// Returns the tables of rotary positions. Angles are computed in float32, as PyTorch
// does it: at position 8,000 their rounding shows in the scores.
Rope load_rope(const Ops &ops, const mlxrank_config &c, double base, mlx_dtype dtype) {
  const int size = c.hidden_size / c.heads, half = size / 2;
  std::vector<float> cos(static_cast<size_t>(c.max_positions) * size), sin(cos.size());
  for (int i = 0; i < half; i++) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(size);
    const float power = std::pow(static_cast<float>(base), exponent), frequency = 1.0f / power;
    for (int position = 0; position < c.max_positions; position++) {
      const float angle = static_cast<float>(position) * frequency;
      const size_t at = static_cast<size_t>(position) * size + i;
      cos[at] = cos[at + half] = static_cast<float>(std::cos(double{angle}));
      sin[at + half] = static_cast<float>(std::sin(double{angle}));
      sin[at] = -sin[at + half];
    }
  }
  auto table = [&](const std::vector<float> &values) {
    return ops.astype(array_of(values.data(), {c.max_positions, size}, MLX_FLOAT32), dtype);
  };
  Rope rope{table(cos), table(sin)};
  eval({&rope.cos, &rope.sin});
  return rope;
}

std::vector<HeadStep> load_head(const Weights &w, const mlxrank_config &c) {
  std::vector<HeadStep> head;
  int64_t in = pooled_size(c);
  for (int32_t i = 0; i < c.head_steps; i++) {
    const mlxrank_head_step &s = c.head[i];
    HeadStep step;
    step.name = s.name;
    if (s.kind == MLXRANK_LAYER_NORM) {
      step.norm = w.norm(s.name, s.out, s.epsilon, MLX_FLOAT32);
    } else {
      step.dense = w.float32_linear(s.name, s.out, in);
      step.activation = s.activation;
      step.residual = s.residual != 0;
    }
    in = s.out;
    head.push_back(std::move(step));
  }
  return head;
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

// Evaluates the parts of a model or of a layer, and frees what they were made of.
void eval_norm(const Norm &n) { eval({&n.weight, &n.bias}); }

// The sources of a layer's weights are freed once it is evaluated, so that at most
// one layer is in memory twice.
void eval_layer(const Layer &l) {
  eval_norm(l.attention_norm);
  eval_norm(l.output_norm);
  for (const Linear *part : {&l.attention_output, &l.intermediate, &l.output, &l.query}) {
    eval_linear(*part);
  }
}

void eval_all(const Model &m) {
  eval({&m.word_embeddings, &m.small_words.scales, &m.small_words.biases, &m.position_embeddings,
        &m.type_embeddings});
  eval_norm(m.embedding_norm);
  eval_linear(m.embeddings_project);
  for (const Layer &l : m.layers) {
    eval_layer(l);
  }
  eval_norm(m.final_norm);
  for (const HeadStep &step : m.head) {
    eval_norm(step.norm);
    eval_linear(step.dense);
  }
  for (const Constants *c : {&m.constants, &m.head_constants}) {
    eval({&c->half, &c->one, &c->zero, &c->rsqrt2, &c->gelu_cubic, &c->gelu_scale});
  }
}

void load_embeddings(Model &m, const Weights &w) {
  const mlxrank_config &c = m.config;
  const int64_t size = c.embedding_size;
  const std::string words = "embeddings.word_embeddings";
  if (m.fused) {
    m.mapped_words = w.has_small(words, c)
                         ? w.mapped_small(words, c.vocab_size, size, c, &m.small_words)
                         : w.mapped(words + ".weight", {c.vocab_size, size});
  }
  if (m.mapped_words == nullptr) {
    m.word_embeddings = w.matrix(words, c.vocab_size, size, c, &m.small_words);
  }
  if (c.rope_base == 0) {
    m.position_embeddings = w.take("embeddings.position_embeddings.weight",
                                   {int64_t{c.first_position} + c.max_positions, size});
  }
  m.type_embeddings = w.take("embeddings.token_type_embeddings.weight", {c.type_vocab_size, size});
  m.embedding_norm = w.norm("embeddings.LayerNorm", size, c.layer_norm_eps);
  if (c.embedding_size != c.hidden_size) {
    m.embeddings_project = w.linear("embeddings_project", c.hidden_size, size, c);
    if (m.fused) {
      pack(m.embeddings_project, c);
    }
  }
}

void load(Model &m, const mlxrank_tensor *tensors, int32_t count, mlx_stream stream) {
  const mlxrank_config &c = m.config;
  const mlx_dtype dtype = m.fused ? MLX_FLOAT32 : mlx_dtype_of(c.dtype);
  Ops ops(stream);
  Weights w(tensors, count, ops, dtype);
  load_embeddings(m, w);
  for (int i = 0; i < c.layers; i++) {
    m.layers.push_back(load_layer(w, ops, m, i));
    if (m.fused) {
      pack(m.layers.back(), c);
    } else {
      eval_layer(m.layers.back());
    }
  }
  if (c.pre_norm) {
    m.final_norm = w.norm("encoder.LayerNorm", c.hidden_size, c.layer_norm_eps);
  }
  m.head = load_head(w, c);
  for (HeadStep &step : m.head) {
    if (m.fused && step.norm.empty()) {
      pack(step.dense, c);
    }
  }
  if (c.rope_base > 0) {
    m.rope = load_rope(ops, c, c.rope_base, dtype);
    m.local_rope = c.window > 0 ? load_rope(ops, c, c.local_rope_base, dtype) : Rope{};
  }
  m.constants = load_constants(ops, mlx_dtype_of(c.dtype));
  m.head_constants = load_constants(ops, MLX_FLOAT32);
  eval_all(m);
  // MLX keeps the freed sources for reuse, and no later array has their sizes.
  // Buffers in use, of other models too, are not in its cache.
  check(mlx_clear_cache(), "clear cache");
#ifdef __GLIBC__
  malloc_trim(0); // glibc keeps most of what was freed, too
#endif
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
  const bool covered = config.dtype == MLXRANK_FLOAT32 || config.dtype == MLXRANK_INT8 ||
                       (config.dtype == MLXRANK_BFLOAT16 && cpu::has_bfloat16());
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
  run_for(*model, [&](mlx_stream stream) {
    load(*model, tensors, count, stream);
    if (model_hook != nullptr) {
      model_hook(*model, stream);
    }
  });
  return model;
}

} // namespace mlxrank
