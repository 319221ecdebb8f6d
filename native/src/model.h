// A model: the weights of an encoder and its head on a device.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "array.h"
#include "mlxrank.h"
#include "shared_pages.h"

namespace mlxrank {

// Reports whether a model runs on the kernels of ../cpu: on the CPU, in float32
// or, if the processor multiplies bfloat16 numbers, in bfloat16, unless the
// environment variable MLXRANK_UNFUSED_GRAPH is 1.
bool uses_kernels(const mlxrank_config &config);

// Returns the size of what the head reads of a pair.
inline int32_t pooled_size(const mlxrank_config &config) {
  return std::popcount(static_cast<uint32_t>(config.pooling)) * config.hidden_size;
}

// Small holds the scales and biases of a matrix of small weights, whose numbers are
// [rows, columns * bits / 32]; it is empty for another matrix. mlxrank_config has bits and group.
struct Small {
  Array scales, biases; // [rows, columns / group]

  bool empty() const { return scales.empty(); }
};

// A linear layer. In a fused model, weight holds weight and bias packed for the
// GEMM of ../cpu/kernels.h, and bias is empty. Everything else in a fused model is
// float32.
struct Linear {
  Array weight; // [out, in]
  Array bias; // [out]
  int out = 0;
  bool float32 = false; // whatever the model's dtype
  Small small; // empty in a fused model, whose weight holds it
};

struct Norm {
  Array weight;
  Array bias;
  float epsilon = 0;

  bool empty() const { return weight.empty(); }
};

// LayerNorm comes after the two blocks, or before them if the model is pre_norm.
struct Layer {
  Linear qkv; // query, key and value in one; empty in a last layer of first_rows
  Linear query; // such a layer only, whose one query is [CLS]
  Linear key_value; // such a layer only
  Linear attention_output;
  Norm attention_norm; // empty in the first layer of a pre_norm model
  // Of a gated layer both halves. In a fused model the halves take turns, as the
  // kernel reads them.
  Linear intermediate;
  Linear output;
  Norm output_norm;
  int window = 0; // a token attends to so many on each side; 0: to all of its pair
};

// Rotary positions: a head's query or key x becomes x cos + swapped(x) sin, where
// swapped exchanges the halves of x. [max_positions, head size]
struct Rope {
  Array cos, sin;
};

// A step of the head, in float32 so that no two logits become equal by rounding.
struct HeadStep {
  std::string name;
  Norm norm; // empty if the step is dense
  Linear dense; // empty if the step is a LayerNorm
  int32_t activation = MLXRANK_IDENTITY; // of a dense step
  bool residual = false; // a dense step adds its input
};

// Scalars of the model's dtype: a scalar of another dtype would promote the whole
// array that it is combined with.
struct Constants {
  Array half, one, zero, rsqrt2, gelu_cubic, gelu_scale;
};

struct Model {
  explicit Model(const mlxrank_config &config) : config(config) {}

  const mlxrank_config config;
  const bool fused = uses_kernels(config); // and so unpadded, see graph.h
  Array word_embeddings, type_embeddings;
  Small small_words; // of word_embeddings
  // Of a fused model instead of word_embeddings, if they are large and lie in a mapped
  // file.
  std::unique_ptr<SharedPages> mapped_words;
  Array position_embeddings; // empty with rotary positions
  Norm embedding_norm;
  Linear embeddings_project; // empty if the embeddings have hidden_size
  std::vector<Layer> layers;
  Norm final_norm; // of a pre_norm model only
  std::vector<HeadStep> head;
  Rope rope, local_rope; // of global and local layers; empty without rotary positions
  Constants constants, head_constants; // the head's are float32

  // Reports whether the encoder's linear layers have small weights.
  bool has_small_weights() const { return config.weight_bits > 0; }
  int head_size() const { return config.hidden_size / config.heads; }
  // Reports whether the last layer needs to compute the [CLS] rows only.
  bool first_rows() const { return config.pooling == MLXRANK_POOL_CLS; }
  const Rope &rope_of(const Layer &l) const { return l.window > 0 ? local_rope : rope; }
};

// Checks config and tensors and copies the weights to the device. The model is
// freed on a thread that may evaluate its arrays, on whatever thread the last
// reference goes.
std::shared_ptr<const Model> open_model(const mlxrank_config &config, const mlxrank_tensor *tensors,
                                        int32_t count);

// Returns "MLX", or the instruction set that the kernels of ../cpu use.
const char *kernels_of(const Model &model);

mlx_dtype mlx_dtype_of(int32_t dtype);

} // namespace mlxrank
