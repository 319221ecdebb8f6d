// Where tests put faults in; see ../test/faults.h.
#pragma once

#include "array.h"

namespace mlxrank {

// Returns the logits, or an array that makes a fault. Null unless the test build of
// the library sets it.
inline Array (*fault_hook)(Array logits, mlx_stream stream) = nullptr;

// Changes a loaded model. Null likewise.
inline void (*model_hook)(struct Model &model, mlx_stream stream) = nullptr;

} // namespace mlxrank
