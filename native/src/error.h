// Errors inside the shim are exceptions; abi.cpp turns them into a status and a
// message at the boundary.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

namespace mlxrank {

struct Error : std::runtime_error {
  Error(int32_t status, const std::string &text) : std::runtime_error(text), status(status) {}
  int32_t status;
};

// Returns the exception that is being handled as an Error: any C++ exception, and
// on macOS any Objective-C exception, which catch (...) catches too.
Error current_error();

// Calls f and returns what it threw.
template <class F>
std::optional<Error> attempt(F f) {
  try {
    f();
    return std::nullopt;
  } catch (...) {
    return current_error();
  }
}

// Reports whether a message of MLX or of C++ means too little memory.
bool is_out_of_memory(const std::string &message);

[[noreturn]] void invalid(const std::string &text);

// Replaces mlx-c's error handler, which prints and exits the process, with one
// that keeps the message for this thread. Call it before the first MLX call.
void install_error_handler();

// Throws MLXRANK_MLX with the operation and mlx-c's message unless status is 0.
void check(int status, const char *operation);

} // namespace mlxrank
