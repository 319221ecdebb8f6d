// Random models and batches for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "graph.h"
#include "reference.h"

namespace mlxrank {

struct Tensors {
  std::vector<std::vector<float>> data;
  std::vector<std::string> names;
  std::vector<mlxrank_tensor> list;
};

inline mlxrank_config config_of(int heads, int head_size, int layers) {
  mlxrank_config c = {};
  c.size = sizeof c;
  c.device = MLXRANK_CPU;
  c.hidden_size = heads * head_size;
  c.heads = heads;
  c.layers = layers;
  c.intermediate_size = 2 * c.hidden_size + 3;
  c.vocab_size = 100;
  c.max_positions = 512;
  c.type_vocab_size = 2;
  c.labels = 2;
  c.layer_norm_eps = 1e-12;
  c.embedding_size = c.hidden_size;
  c.pooling = MLXRANK_POOL_CLS;
  c.head_steps = 2;
  c.head[0] = {"pooler.dense", MLXRANK_DENSE, c.hidden_size, MLXRANK_TANH, 0, 0};
  c.head[1] = {"classifier", MLXRANK_DENSE, c.labels, MLXRANK_IDENTITY, 0, 0};
  return c;
}

// Adds a random tensor: LayerNorm weights around 1, and queries and keys that make
// attention far from uniform.
inline void add_random_tensor(Tensors *t, std::mt19937 &random, const std::string &name, int kind,
                              int64_t rows, int64_t columns) {
  const bool attends =
      name.find(".query.") != std::string::npos || name.find(".key.") != std::string::npos;
  const float gain = attends ? 2 : 1;
  const float deviation = kind == TABLE    ? 1
                          : kind == WEIGHT ? gain / std::sqrt(static_cast<float>(columns))
                                           : 0.1f;
  std::normal_distribution<float> normal(kind == NORM_WEIGHT ? 1 : 0, deviation);
  const int64_t size = rows * std::max<int64_t>(columns, 1);
  t->data.emplace_back(size);
  for (float &v : t->data.back()) {
    v = normal(random);
  }
  t->names.push_back(name);
  mlxrank_tensor tensor = {};
  tensor.bytes = size * static_cast<int64_t>(sizeof(float));
  tensor.rank = columns > 0 ? 2 : 1;
  tensor.shape[0] = rows;
  tensor.shape[1] = columns;
  t->list.push_back(tensor);
}

inline std::shared_ptr<const Model> random_model(const mlxrank_config &c, std::mt19937 &random) {
  Tensors t;
  struct Context {
    Tensors &tensors;
    std::mt19937 &random;
  } context = {t, random};
  model_tensors(
      &c,
      [](void *to, const char *name, int kind, int64_t rows, int64_t columns) {
        auto *context = static_cast<Context *>(to);
        add_random_tensor(&context->tensors, context->random, name, kind, rows, columns);
      },
      &context);
  for (size_t i = 0; i < t.list.size(); i++) {
    t.list[i].name = t.names[i].c_str();
    t.list[i].data = t.data[i].data();
  }
  return open_model(c, t.list.data(), static_cast<int32_t>(t.list.size()));
}

// Makes a batch of the same random tokens in either layout. change is added to the
// last token of the first pair. Padding is random: it must not matter.
inline Batch random_batch(const mlxrank_config &c, const Variant &variant,
                          std::vector<int32_t> lengths, int change) {
  std::mt19937 tokens(7), padding(8);
  Batch batch;
  batch.lengths = std::move(lengths);
  batch.width = *std::max_element(batch.lengths.begin(), batch.lengths.end());
  for (int32_t length : batch.lengths) {
    for (int i = 0; i < (variant.unpadded ? length : batch.width); i++) {
      std::mt19937 &random = i < length ? tokens : padding;
      batch.ids.push_back(static_cast<int32_t>(random() % c.vocab_size));
      batch.type_ids.push_back(static_cast<int32_t>(random() % c.type_vocab_size));
    }
    if (batch.ids.size() <= static_cast<size_t>(batch.width)) { // the first pair
      int32_t &last = batch.ids[length - 1];
      last = (last + change) % c.vocab_size;
    }
  }
  return batch;
}

} // namespace mlxrank
