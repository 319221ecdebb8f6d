// Metal kernels with one mistake each, for the test of the emulator. CMakeLists.txt
// makes them from the kernels' sources.
#pragma once

#include <vector>

#include "kernels.h"
#include "metal.h"
#undef device
#undef constant
#undef threadgroup

namespace emulator {

struct AttentionControl {
  const char *mistake;
  int window;
  decltype(attention) *run;
};

std::vector<AttentionControl> attention_controls();

decltype(attention_first) *first_control(); // without its barrier
decltype(activation) *activation_control(); // without the last element

} // namespace emulator
