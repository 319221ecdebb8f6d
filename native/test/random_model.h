// Random models and batches for tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "graph.h"

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
  return c;
}

// Makes a random model with LayerNorm weights around 1 and attention that is far
// from uniform.
inline std::shared_ptr<const Model> random_model(const mlxrank_config &c, std::mt19937 &random) {
  Tensors t;
  auto add = [&](const std::string &name, std::vector<int64_t> shape, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    int64_t size = 1;
    for (int64_t d : shape) {
      size *= d;
    }
    t.data.emplace_back(size);
    for (float &v : t.data.back()) {
      v = normal(random);
    }
    t.names.push_back(name);
    mlxrank_tensor tensor = {};
    tensor.bytes = size * static_cast<int64_t>(sizeof(float));
    tensor.rank = static_cast<int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), tensor.shape);
    t.list.push_back(tensor);
  };
  const int64_t h = c.hidden_size, f = c.intermediate_size;
  auto linear = [&](const std::string &name, int64_t out, int64_t in, float gain) {
    add(name + ".weight", {out, in}, 0, gain / std::sqrt(static_cast<float>(in)));
    add(name + ".bias", {out}, 0, 0.1f);
  };
  auto norm = [&](const std::string &name) {
    add(name + ".weight", {h}, 1, 0.1f);
    add(name + ".bias", {h}, 0, 0.1f);
  };
  add("embeddings.word_embeddings.weight", {c.vocab_size, h}, 0, 1);
  add("embeddings.position_embeddings.weight", {c.max_positions, h}, 0, 1);
  add("embeddings.token_type_embeddings.weight", {c.type_vocab_size, h}, 0, 1);
  norm("embeddings.LayerNorm");
  for (int i = 0; i < c.layers; i++) {
    const std::string at = "encoder.layer." + std::to_string(i) + ".";
    linear(at + "attention.self.query", h, h, 2);
    linear(at + "attention.self.key", h, h, 2);
    linear(at + "attention.self.value", h, h, 1);
    linear(at + "attention.output.dense", h, h, 1);
    norm(at + "attention.output.LayerNorm");
    linear(at + "intermediate.dense", f, h, 1);
    linear(at + "output.dense", h, f, 1);
    norm(at + "output.LayerNorm");
  }
  linear("pooler.dense", h, h, 1);
  linear("classifier", c.labels, h, 1);
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
