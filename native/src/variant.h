// Variants: the ways to compute the unfused graph. All compute the same scores; which
// is fastest depends on the device.
#pragma once

#include <string>
#include <vector>

#include "model.h"

namespace mlxrank {

// The head size that queries are padded to.
constexpr int padded_head_size = 64;

struct Variant {
  enum class Attention {
    fallback, // MLX's own choice, which is no fused kernel for head sizes below 64
    padded_query, // MLX's fused kernel for padded_head_size
    unpadded, // our kernel for the unpadded layout
  };

  const char *name = "";
  Attention attention = Attention::fallback;
  bool kernels = false; // ours for the activation, and for addition and LayerNorm
  bool unpadded = false; // layout of a microbatch
};

// Returns the variants that can compute the model, the default first. A fused
// model has none.
std::vector<Variant> variants_of(const Model &model);

// Returns the variant of that name, the default if the name is empty. For a fused
// model it is one without a name.
Variant find_variant(const Model &model, const std::string &name);

} // namespace mlxrank
