// mlx-c uses std::format, which g++ 12's library lacks; libfmt has the same.
// Force-included when compiling mlx-c there.
#pragma once
#include <version>
#ifndef __cpp_lib_format
#include <fmt/format.h>
namespace std {
using fmt::format;
}
#endif
