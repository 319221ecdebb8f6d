#include "metal_controls.h"

// Again behind metal.h.
#define device
#define constant
#define threadgroup
#include "../metal/bodies.h"

// Each folder has the kernels' sources with one mistake, see CMakeLists.txt.
#define ATTENTION_CONTROL                                                                          \
  void attention(emulator::Type, const void *qkv, const int32_t *tiles, void *y, int columns,      \
                 int head, int window, int count, uint64_t seed) {                                 \
    run_attention<float>(qkv, tiles, y, columns, head, window, count, seed);                       \
  }

namespace no_barrier_before_tile {
#include "no_barrier_before_tile/kernels.h"
ATTENTION_CONTROL
} // namespace no_barrier_before_tile
namespace no_barrier_behind_tile {
#include "no_barrier_behind_tile/kernels.h"
ATTENTION_CONTROL
} // namespace no_barrier_behind_tile
namespace wrong_lane_map {
#include "wrong_lane_map/kernels.h"
ATTENTION_CONTROL
} // namespace wrong_lane_map
namespace reads_a_row_too_many {
#include "reads_a_row_too_many/kernels.h"
ATTENTION_CONTROL
} // namespace reads_a_row_too_many
namespace counts_a_key_too_many {
#include "counts_a_key_too_many/kernels.h"
ATTENTION_CONTROL
} // namespace counts_a_key_too_many
namespace writes_a_row_too_many {
#include "writes_a_row_too_many/kernels.h"
ATTENTION_CONTROL
} // namespace writes_a_row_too_many
namespace window_too_small {
#include "window_too_small/kernels.h"
ATTENTION_CONTROL
} // namespace window_too_small

namespace first_without_barrier {
#include "first_without_barrier/kernels.h"
void attention(emulator::Type, const void *query, const void *key_value, const int32_t *starts,
               void *y, int pairs, int hidden, int head, uint64_t seed) {
  run_attention_first<float>(query, key_value, starts, y, pairs, hidden, head, seed);
}
} // namespace first_without_barrier

namespace last_element_left_out {
#include "last_element_left_out/kernels.h"
void activation(emulator::Type, int activation, const void *x, void *y, int rows, int columns,
                uint64_t seed) {
  run_activation<float>(activation, x, y, rows, columns, seed);
}
} // namespace last_element_left_out

namespace emulator {

std::vector<AttentionControl> attention_controls() {
  return {
      {"no barrier before a tile is loaded", 0, no_barrier_before_tile::attention},
      {"no barrier behind a tile's loading", 0, no_barrier_behind_tile::attention},
      {"wrong lane map", 0, wrong_lane_map::attention},
      {"reads a row behind the pair", 0, reads_a_row_too_many::attention},
      {"counts a key behind the pair", 0, counts_a_key_too_many::attention},
      {"writes a row behind the pair", 0, writes_a_row_too_many::attention},
      {"the window lacks its last keys", 5, window_too_small::attention},
  };
}

decltype(attention_first) *first_control() { return first_without_barrier::attention; }
decltype(activation) *activation_control() { return last_element_left_out::activation; }

} // namespace emulator
