// The number format in which the kernels of ../cpu multiply.
#pragma once

#include "../cpu/primitives.h"
#include "../cpu/small.h"
#include "model.h"

namespace mlxrank {

// Returns the format of a layer's factors in a fused model.
inline cpu::Factors factors_of(const mlxrank_config &c, const Linear &l) {
  switch (c.dtype) {
  case MLXRANK_INT8:
    return l.float32 ? cpu::Factors::ordered_float32 : cpu::Factors::int8;
  case MLXRANK_BFLOAT16:
    if (!l.float32 && c.weight_bits == 0) {
      return cpu::Factors::bfloat16;
    }
    break;
  default:
    break;
  }
  return l.float32 || c.weight_bits == 0 ? cpu::Factors::float32
                                         : cpu::small_factors({c.weight_bits, c.weight_group});
}

} // namespace mlxrank
