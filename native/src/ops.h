// mlx-c's operations on one stream, with every status checked.
#pragma once

#include <initializer_list>
#include <vector>

#include "../cpu/profile.h"
#include "array.h"
#include "mlxrank.h"

namespace mlxrank {

class Ops {
 public:
  explicit Ops(mlx_stream stream) : stream_(stream) {}

  Array add(const Array &a, const Array &b) const { return call("add", mlx_add, arg(a), arg(b)); }
  Array multiply(const Array &a, const Array &b) const {
    return call("multiply", mlx_multiply, arg(a), arg(b));
  }
  Array maximum(const Array &a, const Array &b) const {
    return call("maximum", mlx_maximum, arg(a), arg(b));
  }
  Array less(const Array &a, const Array &b) const {
    return call("less", mlx_less, arg(a), arg(b));
  }
  Array either(const Array &a, const Array &b) const {
    return call("logical_or", mlx_logical_or, arg(a), arg(b));
  }
  Array both(const Array &a, const Array &b) const {
    return call("logical_and", mlx_logical_and, arg(a), arg(b));
  }
  Array where(const Array &condition, const Array &a, const Array &b) const {
    return call("where", mlx_where, arg(condition), arg(a), arg(b));
  }
  Array matmul(const Array &a, const Array &b) const {
    return counted(MLXRANK_IN_ENCODER, a, b, 0, call("matmul", mlx_matmul, arg(a), arg(b)));
  }
  Array max(const Array &a, int axis) const {
    return call("max", mlx_max_axis, arg(a), axis, false);
  }
  Array erf(const Array &a) const { return call("erf", mlx_erf, arg(a)); }
  Array tanh(const Array &a) const { return call("tanh", mlx_tanh, arg(a)); }
  Array sigmoid(const Array &a) const { return call("sigmoid", mlx_sigmoid, arg(a)); }
  Array astype(const Array &a, mlx_dtype dtype) const {
    return call("astype", mlx_astype, arg(a), dtype);
  }
  Array arange(int n) const {
    return call("arange", mlx_arange, 0.0, static_cast<double>(n), 1.0, MLX_INT32);
  }
  Array contiguous(const Array &a) const {
    return call("contiguous", mlx_contiguous, arg(a), false);
  }
  Array reshape(const Array &a, std::initializer_list<int> shape) const {
    return call("reshape", mlx_reshape, arg(a), shape.begin(), shape.size());
  }
  Array transpose(const Array &a, std::initializer_list<int> axes) const {
    return call("transpose", mlx_transpose_axes, arg(a), axes.begin(), axes.size());
  }
  // Returns rows of table by ids: the shape of ids, then table's last dimension.
  Array gather_rows(const Array &table, const Array &ids) const {
    return call("take", mlx_take_axis, arg(table), arg(ids), 0);
  }
  // Returns a[..., from:to, ...] along axis.
  Array slice(const Array &a, int axis, int from, int to) const {
    size_t rank = mlx_array_ndim(a);
    std::vector<int> start(rank, 0), step(rank, 1), stop(rank);
    for (size_t i = 0; i < rank; i++) {
      stop[i] = a.dim(static_cast<int>(i));
    }
    start[axis] = from;
    stop[axis] = to;
    return call("slice", mlx_slice, arg(a), start.data(), rank, stop.data(), rank, step.data(),
                rank);
  }
  // Joins the parts along an axis.
  Array concatenate(const std::vector<const Array *> &parts, int axis = 0) const {
    std::vector<mlx_array> handles;
    for (const Array *part : parts) {
      handles.push_back(*part);
    }
    mlx_vector_array vector = mlx_vector_array_new_data(handles.data(), handles.size());
    mlx_array out{nullptr};
    int status = mlx_concatenate_axis(&out, vector, axis, stream_);
    mlx_vector_array_free(vector);
    Array result(out);
    check(status, "concatenate");
    return result;
  }
  // Returns x w^T + bias, for x [n, in], w [out, in], bias [out].
  Array linear(const Array &x, const Array &w, const Array &bias) const {
    Array wt = transpose(w, {1, 0});
    return counted(MLXRANK_IN_ENCODER, x, w, 0,
                   call("addmm", mlx_addmm, arg(bias), arg(x), arg(wt), 1.0f, 1.0f));
  }
  // Returns x w^T, for x [n, in] and w [out, in] quantised: numbers of so many bits, and a
  // scale and a bias for each group of them.
  Array quantized_matmul(const Array &x, const Array &w, const Array &scales, const Array &biases,
                         int group, int bits) const {
    return counted(
        MLXRANK_IN_ENCODER, x, w, bits,
        call("quantized_matmul", mlx_quantized_matmul, arg(x), arg(w), arg(scales), arg(biases),
             true, mlx_optional_int{group, true}, mlx_optional_int{bits, true}, "affine"));
  }
  // Returns the numbers of w [rows, columns] that quantized_matmul multiplies by.
  Array dequantize(const Array &w, const Array &scales, const Array &biases, int group,
                   int bits) const {
    return call("dequantize", mlx_dequantize, arg(w), arg(scales), arg(biases),
                mlx_optional_int{group, true}, mlx_optional_int{bits, true}, "affine",
                mlx_array{nullptr}, mlx_optional_dtype{});
  }
  Array layer_norm(const Array &x, const Array &weight, const Array &bias, float eps) const {
    return call("layer_norm", mlx_fast_layer_norm, arg(x), arg(weight), arg(bias), eps);
  }
  // Returns a with zeros behind axes, which grow by the given sizes.
  Array pad(const Array &a, std::initializer_list<int> axes, std::initializer_list<int> sizes,
            const Array &zero) const {
    const std::vector<int> low(axes.size(), 0);
    return call("pad", mlx_pad, arg(a), axes.begin(), axes.size(), low.data(), low.size(),
                sizes.begin(), sizes.size(), arg(zero), "constant");
  }
  // Returns a with n rows of zeros in front of it and n behind it.
  Array pad_rows(const Array &a, int n, const Array &zero) const {
    const int axis = 0;
    return call("pad", mlx_pad, arg(a), &axis, size_t{1}, &n, size_t{1}, &n, size_t{1}, arg(zero),
                "constant");
  }
  // Returns a view of a's elements, which must be contiguous. Elements of the view
  // may overlap.
  Array view(const Array &a, std::initializer_list<int> shape,
             std::initializer_list<int64_t> strides, size_t offset) const {
    return call("as_strided", mlx_as_strided, arg(a), shape.begin(), shape.size(), strides.begin(),
                strides.size(), offset);
  }
  // q [B, heads, Lq, D], k and v [B, heads, L, D], mask [B, 1, 1 or Lq, L], true where a
  // query attends to a key.
  Array attention(const Array &q, const Array &k, const Array &v, float scale,
                  const Array &mask) const {
    return counted_attention(
        q, k, v,
        call("scaled_dot_product_attention", mlx_fast_scaled_dot_product_attention, arg(q), arg(k),
             arg(v), scale, "array", arg(mask), mlx_array{nullptr}, false));
  }

  // Counts the two matmuls of an attention, with keys and with values, and returns its result.
  static Array counted_attention(const Array &q, const Array &k, const Array &v, Array result) {
    result = counted(MLXRANK_IN_ATTENTION, q, k, 0, std::move(result));
    return counted(MLXRANK_IN_ATTENTION, q, v, 0, std::move(result));
  }

  // Counts a matmul of left by right, with so many bits of right in a weight if it is packed,
  // and returns its result. MLX converts operands to the result's type.
  static Array counted(int32_t part, const Array &left, const Array &right, int32_t bits,
                       Array result) {
    if (cpu::recording != nullptr && cpu::recording->matmuls != nullptr) {
      cpu::recording->matmuls->add({part, type_of(left), type_of(right), type_of(result), bits});
    }
    return result;
  }

 private:
  // Returns an array's type by its name in mlxrank.h, -1 if it has none.
  static int32_t type_of(const Array &a) {
    switch (mlx_array_dtype(a)) {
    case MLX_FLOAT32:
      return MLXRANK_FLOAT32;
    case MLX_FLOAT16:
      return MLXRANK_FLOAT16;
    case MLX_BFLOAT16:
      return MLXRANK_BFLOAT16;
    case MLX_INT8:
      return MLXRANK_INT8;
    case MLX_UINT32:
      return MLXRANK_UINT32;
    default:
      return -1;
    }
  }

  static mlx_array arg(const Array &a) { return a; }

  template <class Function, class... Arguments>
  Array call(const char *name, Function function, Arguments... arguments) const {
    return checked_call(name, function, arguments..., stream_);
  }

  mlx_stream stream_;
};

} // namespace mlxrank
