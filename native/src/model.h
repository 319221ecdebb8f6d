// A model: BertForSequenceClassification's weights on a device.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "array.h"
#include "mlxrank.h"

namespace mlxrank {

// Reports whether a model runs on the kernels of ../cpu: on the CPU, in float32
// or, if the processor multiplies bfloat16 numbers, in bfloat16, unless the
// environment variable MLXRANK_UNFUSED_GRAPH is 1.
bool uses_kernels(const mlxrank_config &config);

// A linear layer. In a fused model, weight holds weight and bias packed for the
// GEMM of ../cpu/kernels.h, and bias is empty. Everything else in a fused model is
// float32.
struct Linear {
  Array weight; // [out, in]
  Array bias; // [out]
  int out = 0;
  bool float32 = false; // whatever the model's dtype
};

struct Norm {
  Array weight;
  Array bias;
};

struct Layer {
  Linear qkv; // query, key and value in one; empty in the last layer
  Linear query; // last layer only, whose one query is [CLS]
  Linear key_value; // last layer only
  Linear attention_output;
  Norm attention_norm;
  Linear intermediate;
  Linear output;
  Norm output_norm;
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
  Array word_embeddings, position_embeddings, type_embeddings;
  Norm embedding_norm;
  std::vector<Layer> layers;
  Linear pooler, classifier; // float32, so that no two logits become equal by rounding
  Constants constants;

  int head_size() const { return config.hidden_size / config.heads; }
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
