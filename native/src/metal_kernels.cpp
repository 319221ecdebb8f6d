// The kernels on a GPU: MLX compiles their text at the first use of each combination
// of types and template arguments.
#include "metal_kernels.h"

#include <string>

#include "../metal/bodies.h"
#include "metal_sources.h"

#define TEXT_OF(...) #__VA_ARGS__
#define TEXT(...) TEXT_OF(__VA_ARGS__)

namespace mlxrank::metal_kernels {

namespace {

// A list of names for mlx-c that frees itself.
struct Names {
  explicit Names(std::initializer_list<const char *> names) : handle(mlx_vector_string_new()) {
    for (const char *name : names) {
      mlx_vector_string_append_value(handle, name);
    }
  }
  ~Names() { mlx_vector_string_free(handle); }
  Names(const Names &) = delete;
  mlx_vector_string handle;
};

// A kernel, from the file of its functions and its body.
struct Kernel {
  Kernel(const char *name, std::initializer_list<const char *> inputs, const char *functions,
         const char *body)
      : name(name) {
    const std::string header =
        "#define SHARED(type, name, size) threadgroup type name[size]\n" + std::string(functions);
    handle =
        mlx_fast_metal_kernel_new(("mlxrank_" + std::string(name)).c_str(), Names(inputs).handle,
                                  Names({"y"}).handle, body, header.c_str(), true, false);
  }
  const char *name;
  mlx_fast_metal_kernel handle; // never freed: kernels live as long as the process
};

struct Size {
  int x, y;
};

// Launch has what one use of a kernel needs.
class Launch {
 public:
  // The grid counts threads, as MLX's does.
  Launch(Size grid, int group) : config_(mlx_fast_metal_kernel_config_new()) {
    check(mlx_fast_metal_kernel_config_set_grid(config_, grid.x, grid.y, 1), "grid");
    check(mlx_fast_metal_kernel_config_set_thread_group(config_, group, 1, 1), "threadgroup");
  }
  ~Launch() { mlx_fast_metal_kernel_config_free(config_); }
  Launch(const Launch &) = delete;

  Launch &with(const char *name, int value) {
    check(mlx_fast_metal_kernel_config_add_template_arg_int(config_, name, value), name);
    return *this;
  }

  // Returns the kernel's output, an array of rows of columns in the first input's dtype.
  Array run(const Kernel &kernel, std::initializer_list<const Array *> inputs, int rows,
            int columns, mlx_stream stream) {
    const mlx_dtype dtype = mlx_array_dtype(**inputs.begin());
    const int shape[] = {rows, columns};
    check(mlx_fast_metal_kernel_config_add_template_arg_dtype(config_, "T", dtype), "T");
    check(mlx_fast_metal_kernel_config_add_output_arg(config_, shape, 2, dtype), "output");
    mlx_vector_array in = mlx_vector_array_new(), out = mlx_vector_array_new();
    for (const Array *input : inputs) {
      mlx_vector_array_append_value(in, *input);
    }
    int status = mlx_fast_metal_kernel_apply(&out, kernel.handle, in, config_, stream);
    mlx_array handle{nullptr};
    if (status == 0) {
      status = mlx_vector_array_get(&handle, out, 0);
    }
    Array result(handle);
    mlx_vector_array_free(in);
    mlx_vector_array_free(out);
    check(status, kernel.name);
    return result;
  }

 private:
  mlx_fast_metal_kernel_config config_;
};

int head_size(const Array &rows, int parts, int heads) { return rows.dim(1) / parts / heads; }

} // namespace

bool support(const mlxrank_config &config) {
#ifdef __APPLE__
  // MLX passes arrays of fewer than 8 elements in another address space.
  return config.device == MLXRANK_GPU && config.hidden_size >= 8 && config.intermediate_size >= 8 &&
         config.embedding_size >= 8 && config.hidden_size <= most_norm_columns &&
         config.embedding_size <= most_norm_columns;
#else
  (void)config;
  return false;
#endif
}

Array activation(const Array &x, int32_t activation, mlx_stream stream) {
  static const auto *kernel =
      new Kernel("activation", {"x"}, sources::activation, TEXT(ACTIVATION_BODY));
  const int rows = x.dim(0), columns = x.dim(1), run = 4; // activation_run
  return Launch({(rows * columns + run - 1) / run, 1}, 256)
      .with("ACTIVATION", activation)
      .run(*kernel, {&x}, rows, columns, stream);
}

Array add_layer_norm(const Array &x, const Array &residual, const Array &weight, const Array &bias,
                     const Array &epsilon, mlx_stream stream) {
  static const auto *kernel =
      new Kernel("add_layer_norm", {"x", "residual", "weight", "bias", "epsilon"},
                 sources::add_layer_norm, TEXT(ADD_LAYER_NORM_BODY));
  const int rows = x.dim(0), columns = x.dim(1);
  return Launch({rows * 32, 1}, 256)
      .with("RUNS", norm_runs(columns))
      .run(*kernel, {&x, &residual, &weight, &bias, &epsilon}, rows, columns, stream);
}

Array attention(const Array &qkv, const Array &tiles, int heads, mlx_stream stream) {
  static const auto *kernel =
      new Kernel("attention", {"qkv", "tiles"}, sources::attention, TEXT(ATTENTION_BODY));
  const int threads = 128; // tile_threads
  return Launch({tiles.dim(0) * threads, heads}, threads)
      .with("HEAD", head_size(qkv, 3, heads))
      .with("WINDOW", 0)
      .run(*kernel, {&qkv, &tiles}, qkv.dim(0), qkv.dim(1) / 3, stream);
}

Array attention_first(const Array &query, const Array &key_value, const Array &starts, int heads,
                      mlx_stream stream) {
  static const auto *kernel = new Kernel("attention_first", {"query", "key_value", "starts"},
                                         sources::attention_first, TEXT(ATTENTION_FIRST_BODY));
  const int threads = 32 * 8; // 32 first_simdgroups
  return Launch({query.dim(0) * threads, heads}, threads)
      .with("HEAD", head_size(query, 1, heads))
      .run(*kernel, {&query, &key_value, &starts}, query.dim(0), query.dim(1), stream);
}

} // namespace mlxrank::metal_kernels
