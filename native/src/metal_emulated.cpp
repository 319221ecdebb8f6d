// The Metal kernels on the CPU, for tests: primitives of MLX that run the emulator.
#include <cstring>
#include <functional>
#include <stdexcept>

#include "../metal/emulator/kernels.h"
#include "metal_kernels.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/stream.h"
#include "mlx/primitives.h"

namespace mlxrank::metal_kernels {

namespace {

namespace mx = mlx::core;

using Inputs = std::vector<const void *>;
using Run = std::function<void(emulator::Type, const Inputs &, void *)>;

// An input: rows of contiguous bytes.
struct Rows {
  const char *data;
  size_t count, bytes, stride;
};

// A kernel whose output has the first input's dtype.
class Emulated : public mx::UnaryPrimitive {
 public:
  Emulated(mx::Stream stream, const char *name, Run run)
      : mx::UnaryPrimitive(stream), name_(name), run_(std::move(run)) {}

  void eval_cpu(const std::vector<mx::array> &inputs, mx::array &out) override {
    std::vector<Rows> in;
    for (const mx::array &a : inputs) {
      const bool contiguous = a.flags().row_contiguous;
      if (!contiguous && (a.ndim() != 2 || a.strides(1) != 1)) {
        throw std::invalid_argument(std::string(name_) + ": an input has no contiguous rows");
      }
      const size_t row = contiguous ? a.nbytes() : a.shape(1) * a.itemsize();
      in.push_back({a.data<char>(), contiguous ? 1 : size_t(a.shape(0)), row,
                    contiguous ? row : a.strides(0) * a.itemsize()});
    }
    out.set_data(mx::allocator::malloc(out.nbytes()));
    const emulator::Type type = out.dtype() == mx::float32   ? emulator::Type::float32
                                : out.dtype() == mx::float16 ? emulator::Type::float16
                                                             : emulator::Type::bfloat16;
    mx::cpu::get_command_encoder(stream()).dispatch(
        [run = run_, type, in = std::move(in), y = out.data<void>(), bytes = out.nbytes()] {
          std::memset(y, 0xff, bytes); // NaN: what a kernel leaves out must not matter
          std::vector<std::vector<char>> copies; // as MLX's metal_kernel makes them
          Inputs whole;
          for (const Rows &rows : in) {
            whole.push_back(rows.data);
            if (rows.count > 1) {
              copies.emplace_back();
              for (size_t i = 0; i < rows.count; i++) {
                const char *row = rows.data + i * rows.stride;
                copies.back().insert(copies.back().end(), row, row + rows.bytes);
              }
              whole.back() = copies.back().data();
            }
          }
          run(type, whole, y);
        });
  }
  void eval_gpu(const std::vector<mx::array> &, mx::array &) override {
    throw std::logic_error(std::string(name_) + ": the emulator runs on the CPU alone");
  }
  const char *name() const override { return name_; }

 private:
  const char *name_;
  Run run_;
};

Array emulated(const char *name, mx::Shape shape, std::initializer_list<const Array *> inputs,
               mlx_stream stream, Run run) {
  std::vector<mx::array> arrays;
  for (const Array *input : inputs) {
    arrays.push_back(mlx_array_get_(*input));
  }
  const mx::Dtype dtype = arrays[0].dtype();
  auto primitive = std::make_shared<Emulated>(mlx_stream_get_(stream), name, std::move(run));
  mlx_array handle = mlx_array_new();
  mlx_array_set_(handle, mx::array(std::move(shape), dtype, primitive, std::move(arrays)));
  return Array(handle);
}

const int32_t *ints(const void *data) { return static_cast<const int32_t *>(data); }

// The order of threads differs from place to place in the graph, not from run to run.
uint64_t seed_of(int a, int b) { return 1000003u * uint64_t(a) + b; }

} // namespace

bool support(const mlxrank_config &config) {
  return config.device == MLXRANK_CPU && config.hidden_size <= most_norm_columns &&
         config.embedding_size <= most_norm_columns;
}

Array activation(const Array &x, int32_t activation, mlx_stream stream) {
  const int rows = x.dim(0), columns = x.dim(1);
  return emulated("MetalActivation", {rows, columns}, {&x}, stream,
                  [=](emulator::Type type, const Inputs &in, void *y) {
                    emulator::activation(type, activation, in[0], y, rows, columns,
                                         seed_of(rows, columns));
                  });
}

Array add_layer_norm(const Array &x, const Array &residual, const Array &weight, const Array &bias,
                     const Array &epsilon, mlx_stream stream) {
  const int rows = x.dim(0), columns = x.dim(1);
  return emulated("MetalAddLayerNorm", {rows, columns}, {&x, &residual, &weight, &bias, &epsilon},
                  stream, [=](emulator::Type type, const Inputs &in, void *y) {
                    emulator::add_layer_norm(type, in[0], in[1], in[2], in[3],
                                             *static_cast<const float *>(in[4]), y, rows, columns,
                                             norm_runs(columns), seed_of(rows, columns));
                  });
}

Array attention(const Array &qkv, const Array &tiles, int heads, mlx_stream stream) {
  const int rows = qkv.dim(0), columns = qkv.dim(1), count = tiles.dim(0);
  return emulated("MetalAttention", {rows, columns / 3}, {&qkv, &tiles}, stream,
                  [=](emulator::Type type, const Inputs &in, void *y) {
                    emulator::attention(type, in[0], ints(in[1]), y, columns, columns / 3 / heads,
                                        0, count, seed_of(rows, count));
                  });
}

Array attention_first(const Array &query, const Array &key_value, const Array &starts, int heads,
                      mlx_stream stream) {
  const int pairs = query.dim(0), hidden = query.dim(1);
  return emulated("MetalAttentionFirst", {pairs, hidden}, {&query, &key_value, &starts}, stream,
                  [=](emulator::Type type, const Inputs &in, void *y) {
                    emulator::attention_first(type, in[0], in[1], ints(in[2]), y, pairs, hidden,
                                              hidden / heads, seed_of(pairs, hidden));
                  });
}

} // namespace mlxrank::metal_kernels
