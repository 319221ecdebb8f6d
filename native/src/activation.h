// Activations as MLX operations, for the unfused graph and the head.
#pragma once

#include "model.h"
#include "ops.h"

namespace mlxrank {

// x/2 (1 + y)
inline Array half_gate(const Ops &ops, const Constants &c, const Array &x, const Array &y) {
  return ops.multiply(ops.multiply(x, c.half), ops.add(y, c.one));
}

// Applies an activation of mlxrank_config, but MLXRANK_IDENTITY. The constants have x's
// dtype.
inline Array activate(const Ops &ops, const Constants &c, int32_t activation, const Array &x) {
  switch (activation) {
  case MLXRANK_GELU_TANH: { // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    Array cubic = ops.multiply(ops.multiply(x, ops.multiply(x, x)), c.gelu_cubic);
    Array inner = ops.multiply(ops.add(x, cubic), c.gelu_scale);
    return half_gate(ops, c, x, ops.tanh(inner));
  }
  case MLXRANK_RELU:
    return ops.maximum(x, c.zero);
  case MLXRANK_SILU:
    return ops.multiply(x, ops.sigmoid(x));
  case MLXRANK_TANH:
    return ops.tanh(x);
  case MLXRANK_SIGMOID:
    return ops.sigmoid(x);
  default: // x/2 (1 + erf(x / sqrt 2))
    return half_gate(ops, c, x, ops.erf(ops.multiply(x, c.rsqrt2)));
  }
}

} // namespace mlxrank
