#include "error.h"

#include <cxxabi.h>

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

Error current_error() {
  try {
    throw;
  } catch (const Error &e) {
    return e;
  } catch (const std::exception &e) {
    return Error(MLXRANK_MLX, e.what());
  } catch (...) {
    const std::type_info *type = abi::__cxa_current_exception_type();
    return Error(MLXRANK_MLX, std::string("unknown exception of type ") +
                                  (type != nullptr ? type->name() : "unknown"));
  }
}

bool is_out_of_memory(const std::string &message) {
  for (const char *text : {"bad_alloc", "Unable to allocate", "Attempting to allocate"}) {
    if (message.find(text) != std::string::npos) {
      return true;
    }
  }
  return false;
}

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
