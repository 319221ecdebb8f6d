// Checks of what the caller says of a model. A check that fails throws MLXRANK_INVALID.
#pragma once

#include <cstdint>
#include <string>

#include "mlxrank.h"

namespace mlxrank {

// Rejects an unknown dtype of what.
void check_dtype(int32_t dtype, const std::string &what);

// Rejects a config that describes no model.
void check_config(const mlxrank_config &config);

} // namespace mlxrank
