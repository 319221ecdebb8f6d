// Variants: the ways to compute the unfused graph. All compute the same scores.
#pragma once

#include <string>
#include <vector>

#include "model.h"

namespace mlxrank {

struct Variant {
  enum class Attention { fallback };

  const char *name = "";
  Attention attention = Attention::fallback;
  bool unpadded = false; // layout of a microbatch
};

// Returns the variants that can compute the model, the default first. A fused
// model has none.
std::vector<Variant> variants_of(const Model &model);

// Returns the variant of that name, the default if the name is empty. For a fused
// model it is one without a name.
Variant find_variant(const Model &model, const std::string &name);

} // namespace mlxrank
