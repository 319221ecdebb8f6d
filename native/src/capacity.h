// gpu_microbatch_tokens computes how many tokens a GPU computes at once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mlxrank.h"

namespace mlxrank {

// Returns how many computed tokens a microbatch should have on a GPU whose working
// set is so many bytes, 0 if that is unknown.
//
// MLX allocates an operation's output when it encodes the operation, and encodes up
// to about ten command buffers ahead of the GPU. Long pairs fill a command buffer
// with one of the largest outputs: attention scores [heads, width, width] of a pair,
// or the inner rows of feed-forward. Beside these are some eight arrays of rows of
// hidden_size. A sixth of the working set is for them; weights, the cache and other
// programs have the rest. More than 16,384 tokens make a GPU no faster.
inline int32_t gpu_microbatch_tokens(const mlxrank_config &c, int64_t working_set) {
  constexpr int64_t most = 16384, grain = 1024, ahead = 11, rows = 8;
  if (working_set <= 0) {
    return most;
  }
  const int64_t number = c.dtype == MLXRANK_FLOAT32 ? 4 : 2;
  const int64_t width = std::min<int64_t>(c.max_positions, 512);
  const int64_t inner = int64_t{c.gated ? 2 : 1} * c.intermediate_size;
  const int64_t largest = std::max<int64_t>(c.heads * width, inner);
  const int64_t bytes_per_token = number * (ahead * largest + rows * c.hidden_size);
  const int64_t fitting = working_set / 6 / bytes_per_token / grain * grain;
  return static_cast<int32_t>(std::clamp<int64_t>(fitting, grain, most));
}

} // namespace mlxrank
