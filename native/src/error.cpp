#include "error.h"

#include <mutex>

#include "mlx/c/error.h"
#include "mlxrank.h"

namespace mlxrank {

namespace {

// mlx-c reports on the thread that made the call.
thread_local std::string last_message;

void keep_message(const char *message, void *) { last_message = message; }

// mlx-c appends " at FILE:LINE" of the machine it was built on.
std::string without_location(const std::string &message) {
  size_t at = message.rfind(" at ");
  return at == std::string::npos ? message : message.substr(0, at);
}

} // namespace

void invalid(const std::string &text) { throw Error(MLXRANK_INVALID, text); }

void install_error_handler() {
  static std::once_flag once;
  std::call_once(once, [] { mlx_set_error_handler(keep_message, nullptr, nullptr); });
}

void check(int status, const char *operation) {
  if (status == 0) {
    return;
  }
  std::string message = without_location(last_message);
  last_message.clear();
  throw Error(MLXRANK_MLX, std::string("mlx ") + operation + ": " + message);
}

} // namespace mlxrank
