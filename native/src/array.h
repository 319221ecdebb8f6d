// Owning wrappers over mlx-c handles. Destroying a wrapper frees its handle, so
// that a graph's intermediates do not outlive its evaluation.
#pragma once

#include <initializer_list>
#include <utility>
#include <vector>

#include "error.h"
#include "mlx/c/mlx.h"

namespace mlxrank {

class Array {
 public:
  Array() : handle_{nullptr} {}
  explicit Array(mlx_array handle) : handle_(handle) {}
  Array(Array &&other) noexcept : handle_(std::exchange(other.handle_, mlx_array{nullptr})) {}
  Array &operator=(Array &&other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Array() {
    if (handle_.ctx) {
      mlx_array_free(handle_);
    }
  }
  operator mlx_array() const { return handle_; }
  bool empty() const { return handle_.ctx == nullptr; }
  int dim(int axis) const { return mlx_array_dim(handle_, axis); }

 private:
  mlx_array handle_;
};

// Calls a function of mlx-c, which writes its result to its first argument.
template <class Function, class... Arguments>
Array checked_call(const char *name, Function function, Arguments... arguments) {
  mlx_array out{nullptr};
  int status = function(&out, arguments...);
  Array result(out);
  check(status, name);
  return result;
}

// Copies data into a new array of the given shape.
inline Array array_of(const void *data, std::initializer_list<int> shape, mlx_dtype dtype) {
  mlx_array handle = mlx_array_new_data(data, shape.begin(), static_cast<int>(shape.size()), dtype);
  check(handle.ctx == nullptr, "new array");
  return Array(handle);
}

// Evaluates the arrays that are not empty and waits for them.
inline void eval(std::initializer_list<const Array *> arrays) {
  std::vector<mlx_array> handles;
  for (const Array *a : arrays) {
    if (!a->empty()) {
      handles.push_back(*a);
    }
  }
  if (handles.empty()) {
    return;
  }
  mlx_vector_array vector = mlx_vector_array_new_data(handles.data(), handles.size());
  int status = mlx_eval(vector);
  mlx_vector_array_free(vector);
  check(status, "eval");
}

// Starts evaluating an array.
inline void async_eval(const Array &array) {
  mlx_vector_array vector = mlx_vector_array_new_value(array);
  int status = mlx_async_eval(vector);
  mlx_vector_array_free(vector);
  check(status, "async eval");
}

} // namespace mlxrank
