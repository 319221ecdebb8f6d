// mlx-c's operations on one stream, with every status checked.
#pragma once

#include <initializer_list>
#include <vector>

#include "array.h"

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
  Array erf(const Array &a) const { return call("erf", mlx_erf, arg(a)); }
  Array tanh(const Array &a) const { return call("tanh", mlx_tanh, arg(a)); }
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
  // Joins the parts along the first axis.
  Array concatenate(const std::vector<const Array *> &parts) const {
    std::vector<mlx_array> handles;
    for (const Array *part : parts) {
      handles.push_back(*part);
    }
    mlx_vector_array vector = mlx_vector_array_new_data(handles.data(), handles.size());
    mlx_array out{nullptr};
    int status = mlx_concatenate_axis(&out, vector, 0, stream_);
    mlx_vector_array_free(vector);
    Array result(out);
    check(status, "concatenate");
    return result;
  }
  // Returns x w^T + bias, for x [n, in], w [out, in], bias [out].
  Array linear(const Array &x, const Array &w, const Array &bias) const {
    Array wt = transpose(w, {1, 0});
    return call("addmm", mlx_addmm, arg(bias), arg(x), arg(wt), 1.0f, 1.0f);
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
  // Returns a view of a's elements, which must be contiguous. Elements of the view
  // may overlap.
  Array view(const Array &a, std::initializer_list<int> shape,
             std::initializer_list<int64_t> strides, size_t offset) const {
    return call("as_strided", mlx_as_strided, arg(a), shape.begin(), shape.size(), strides.begin(),
                strides.size(), offset);
  }
  // q [B, heads, Lq, D], k and v [B, heads, L, D], mask [B, 1, 1, L], true where a
  // key is a token.
  Array attention(const Array &q, const Array &k, const Array &v, float scale,
                  const Array &mask) const {
    return call("scaled_dot_product_attention", mlx_fast_scaled_dot_product_attention, arg(q),
                arg(k), arg(v), scale, "array", arg(mask), mlx_array{nullptr}, false);
  }

 private:
  static mlx_array arg(const Array &a) { return a; }

  template <class Function, class... Arguments>
  Array call(const char *name, Function function, Arguments... arguments) const {
    return checked_call(name, function, arguments..., stream_);
  }

  mlx_stream stream_;
};

} // namespace mlxrank
