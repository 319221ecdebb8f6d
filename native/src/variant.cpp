#include "variant.h"

namespace mlxrank {

std::vector<Variant> variants_of(const Model &model) {
  if (model.fused) {
    return {};
  }
  return {{"reference", Variant::Attention::fallback, false}};
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
    invalid("options: variant " + name + " is unknown, " +
            (model.fused ? "and the fused graph has none; leave it empty" : "want one of: " + names));
  }
  return {"", Variant::Attention::fallback, true};
}

} // namespace mlxrank
