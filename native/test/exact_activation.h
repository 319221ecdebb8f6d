// Activations in double precision, that kernels are compared with.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels.h"

namespace mlxrank::cpu {

inline double exact_activation(double x, Activation activation) {
  switch (activation) {
  case Activation::gelu:
    return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
  case Activation::gelu_tanh:
    return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case Activation::relu:
    return std::max(x, 0.0);
  default:
    return x;
  }
}

} // namespace mlxrank::cpu
