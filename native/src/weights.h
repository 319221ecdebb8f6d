// The tensors that the caller gives for a model.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "config.h"
#include "model.h"
#include "ops.h"

namespace mlxrank {

using Shape = std::vector<int64_t>;

inline std::string text(const Shape &shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); i++) {
    out += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return out + "]";
}

inline int64_t bytes_of(int32_t dtype) {
  return dtype == MLXRANK_FLOAT32 || dtype == MLXRANK_UINT32 ? 4 : 2;
}

// Rejects a matrix that cannot be quantised.
inline void check_finite(const Array &matrix, const std::string &name) {
  eval({&matrix});
  const float *numbers = mlx_array_data_float32(matrix), *end = numbers + mlx_array_size(matrix);
  if (!std::all_of(numbers, end, [](float x) { return std::isfinite(x); })) {
    invalid("tensor " + name + ": a number is NaN or infinite, which int8 does not have");
  }
}

// The caller's tensors by name. take returns them as arrays of the model's dtype.
class Weights {
 public:
  Weights(const mlxrank_tensor *tensors, int32_t count, const Ops &ops, mlx_dtype dtype)
      : ops_(ops), dtype_(dtype) {
    for (int32_t i = 0; i < count; i++) {
      if (tensors[i].name == nullptr || !by_name_.emplace(tensors[i].name, &tensors[i]).second) {
        invalid("tensor " + std::to_string(i) + ": name missing or given twice");
      }
    }
  }

  Array take(const std::string &name, const Shape &shape) const {
    return take(name, shape, dtype_);
  }

  Array take(const std::string &name, const Shape &shape, mlx_dtype dtype) const {
    const mlxrank_tensor &t = find(name, shape);
    std::vector<int> dims(shape.begin(), shape.end());
    mlx_array handle = mlx_array_new_data(t.data, dims.data(), t.rank, mlx_dtype_of(t.dtype));
    check(handle.ctx == nullptr, "new array");
    Array array(handle);
    release(t); // MLX has a copy
    return mlx_dtype_of(t.dtype) == dtype ? std::move(array) : ops_.astype(array, dtype);
  }

  // Returns a large float32 tensor where it is, if it lies in a mapped file; else null.
  std::unique_ptr<SharedPages> mapped(const std::string &name, const Shape &shape) const {
    const mlxrank_tensor &t = find(name, shape);
    return t.dtype == MLXRANK_FLOAT32 ? share(t) : nullptr;
  }

  // Returns a linear layer of the encoder, whose weights are small if config asks for that.
  Linear linear(const std::string &name, int64_t out, int64_t in, const mlxrank_config &c) const {
    Linear l;
    l.weight = matrix(name, out, in, c, &l.small);
    l.bias = take(name + ".bias", {out});
    l.out = static_cast<int>(out);
    if (c.weight_bits > 0 && l.small.empty()) {
      invalid("tensor " + name + ".weight: not UINT32, as weight_bits of config wants it");
    }
    if (c.dtype == MLXRANK_INT8) {
      check_finite(l.weight, name + ".weight");
    }
    return l;
  }

  // Returns a matrix, with its scales and biases if its weights are small.
  Array matrix(const std::string &name, int64_t rows, int64_t columns, const mlxrank_config &c,
               Small *small) const {
    if (!has_small(name, c)) {
      return take(name + ".weight", {rows, columns});
    }
    const mlxrank_tensor &t = small_matrix(name, rows, columns, c, small);
    Array array =
        array_of(t.data, {static_cast<int>(t.shape[0]), static_cast<int>(t.shape[1])}, MLX_UINT32);
    release(t);
    return array;
  }

  // Returns the numbers of a large matrix of small weights where they are, if they lie in a
  // mapped file, with its scales and biases; else null.
  std::unique_ptr<SharedPages> mapped_small(const std::string &name, int64_t rows, int64_t columns,
                                            const mlxrank_config &c, Small *small) const {
    return has_small(name, c) ? share(small_matrix(name, rows, columns, c, small)) : nullptr;
  }

  // Reports whether a matrix has small weights.
  bool has_small(const std::string &name, const mlxrank_config &c) const {
    const auto found = by_name_.find(name + ".weight");
    return c.weight_bits > 0 && found != by_name_.end() && found->second->dtype == MLXRANK_UINT32;
  }

  Linear float32_linear(const std::string &name, int64_t out, int64_t in) const {
    return {take(name + ".weight", {out, in}, MLX_FLOAT32),
            take(name + ".bias", {out}, MLX_FLOAT32),
            static_cast<int>(out),
            true,
            {}};
  }

  Norm norm(const std::string &name, int64_t size, double epsilon) const {
    return norm(name, size, epsilon, dtype_);
  }

  Norm norm(const std::string &name, int64_t size, double epsilon, mlx_dtype dtype) const {
    return {take(name + ".weight", {size}, dtype), take(name + ".bias", {size}, dtype),
            static_cast<float>(epsilon)};
  }

 private:
  // Smaller tables are copied: then their file may change while the model is open.
  static constexpr int64_t least_mapped = 64 << 20;

  static std::unique_ptr<SharedPages> share(const mlxrank_tensor &t) {
    return t.bytes >= least_mapped ? SharedPages::of(t.data, static_cast<size_t>(t.bytes))
                                   : nullptr;
  }

  // Takes a tensor that was copied out of memory, if it lies in a mapped file and is large
  // enough to matter.
  static void release(const mlxrank_tensor &t) {
    if (t.bytes >= 256 << 10) {
      SharedPages::release(t.data, static_cast<size_t>(t.bytes));
    }
  }

  // Checks a matrix of small weights, and takes its scales and biases.
  const mlxrank_tensor &small_matrix(const std::string &name, int64_t rows, int64_t columns,
                                     const mlxrank_config &c, Small *small) const {
    if (columns % c.weight_group != 0) {
      invalid("tensor " + name + ".weight: " + std::to_string(columns) +
              " columns are not a multiple of weight_group " + std::to_string(c.weight_group));
    }
    small->scales = take(name + ".scales", {rows, columns / c.weight_group});
    small->biases = take(name + ".biases", {rows, columns / c.weight_group});
    const Shape shape = {rows, columns * c.weight_bits / 32};
    const mlxrank_tensor &t = *by_name_.at(name + ".weight");
    check_tensor(t, name + ".weight", shape);
    return t;
  }

  const mlxrank_tensor &find(const std::string &name, const Shape &shape) const {
    auto found = by_name_.find(name);
    if (found == by_name_.end()) {
      invalid("tensor " + name + " " + text(shape) + " is missing");
    }
    check_dtype(found->second->dtype, "tensor " + name);
    check_tensor(*found->second, name, shape);
    return *found->second;
  }

  static void check_tensor(const mlxrank_tensor &t, const std::string &name, const Shape &shape) {
    if (t.rank != 1 && t.rank != 2) {
      invalid("tensor " + name + ": rank " + std::to_string(t.rank) + ", want 1 or 2");
    }
    Shape found(t.shape, t.shape + t.rank);
    if (found != shape) {
      invalid("tensor " + name + ": shape " + text(found) + ", want " + text(shape));
    }
    int64_t want = bytes_of(t.dtype);
    for (int64_t d : shape) {
      want *= d;
    }
    if (t.data == nullptr || t.bytes != want) {
      invalid("tensor " + name + ": " + std::to_string(t.bytes) + " bytes, want " +
              std::to_string(want));
    }
  }

  const Ops &ops_;
  mlx_dtype dtype_;
  std::map<std::string, const mlxrank_tensor *> by_name_;
};

} // namespace mlxrank
