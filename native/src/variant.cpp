#include "variant.h"

#include "metal_kernels.h"

namespace mlxrank {

namespace {

using Attention = Variant::Attention;

constexpr Variant all[] = {
    {"reference", Attention::fallback, false, false},
    {"qpad", Attention::padded_query, false, false},
    {"kernels", Attention::fallback, true, false},
    {"qpad-kernels", Attention::padded_query, true, false},
    {"packed", Attention::unpadded, true, true},
};

// Reports whether the model has BERT's layers, for which alone there are other ways than
// the reference.
bool is_like_bert(const mlxrank_config &c) {
  return !c.pre_norm && !c.gated && c.window == 0 && c.rope_base == 0;
}

bool is_supported(const Variant &v, const Model &m) {
  if (v.attention == Attention::fallback && !v.kernels) {
    return true;
  }
  if (!is_like_bert(m.config)) {
    return false;
  }
  if (v.kernels && !metal_kernels::support(m.config)) {
    return false;
  }
  switch (v.attention) {
  case Attention::padded_query:
    // Windows of padded_head_size columns must stay within keys and values.
    return m.head_size() < padded_head_size &&
           m.config.hidden_size >= padded_head_size - m.head_size();
  case Attention::unpadded:
    return metal_kernels::has_attention(m.head_size());
  default:
    return true;
  }
}

} // namespace

std::vector<Variant> variants_of(const Model &model) {
  std::vector<Variant> found;
  for (const Variant &v : all) {
    if (!model.fused && is_supported(v, model)) {
      found.push_back(v);
    }
  }
  return found;
}

Variant find_variant(const Model &model, const std::string &name) {
  std::string names;
  for (const Variant &v : variants_of(model)) {
    if (name.empty() || name == v.name) {
      return v;
    }
    names += (names.empty() ? "" : ", ") + std::string(v.name);
  }
  if (!name.empty()) {
    invalid("options: variant " + name + " is unknown" +
            (model.fused ? ", and the fused graph has none; leave it empty"
                         : " or cannot compute this model here, want one of: " + names));
  }
  return {"", Attention::fallback, false, true};
}

} // namespace mlxrank
