#include "primitives.h"

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/stream.h"
#include "mlx/primitives.h"
#include "profile.h"
#include "small.h"
#include "team.h"

namespace mlxrank::cpu {

namespace mx = mlx::core;

namespace {

// The inputs of a kernel, in order. One that was left out is null.
struct Inputs {
  std::vector<const void *> data;

  const float *floats(size_t i) const {
    return i < data.size() ? static_cast<const float *>(data[i]) : nullptr;
  }
  const int32_t *ints(size_t i) const { return static_cast<const int32_t *>(data[i]); }
};

// Returns the arrays of a kernel. Those that are left out must be the last.
std::vector<mx::array> inputs_of(std::initializer_list<mlx_array> arrays) {
  std::vector<mx::array> inputs;
  for (mlx_array a : arrays) {
    if (a.ctx != nullptr) {
      inputs.push_back(mlx_array_get_(a));
    }
  }
  return inputs;
}

// A kernel as an MLX primitive. MLX keeps the memory of inputs and output until
// the dispatched function has run.
template <class Run>
class Kernel : public mx::UnaryPrimitive {
 public:
  Kernel(mx::Stream stream, const char *name, Run run)
      : mx::UnaryPrimitive(stream), name_(name), run_(std::move(run)) {}

  void eval_cpu(const std::vector<mx::array> &inputs, mx::array &out) override {
    Inputs in;
    for (const mx::array &a : inputs) {
      if (!a.flags().row_contiguous) {
        throw std::invalid_argument(std::string(name_) + ": an input is not contiguous");
      }
      in.data.push_back(a.data<void>());
    }
    out.set_data(mx::allocator::malloc(out.nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [run = run_, in = std::move(in), y = out.data<float>(), recorder = recorder_] {
          const Recording here(recorder.get());
          run(in, y);
        });
  }
  void eval_gpu(const std::vector<mx::array> &, mx::array &) override {
    throw std::logic_error(std::string(name_) + ": there is no such kernel for a GPU");
  }
  const char *name() const override { return name_; }

 private:
  const char *name_;
  Run run_;
  const std::shared_ptr<Recorder> recorder_ = recording ? recording->shared_from_this() : nullptr;
};

template <class Run>
mx::array kernel(const char *name, mx::Shape shape, mlx_stream s, std::vector<mx::array> inputs,
                 Run run) {
  auto primitive = std::make_shared<Kernel<Run>>(mlx_stream_get_(s), name, std::move(run));
  return mx::array(std::move(shape), mx::float32, std::move(primitive), std::move(inputs));
}

// Stores the array that make returns; turns exceptions into mlx-c's errors.
template <class Make>
int guarded(mlx_array *res, Make make) {
  try {
    mlx_array_set_(*res, make());
  } catch (std::exception &e) {
    mlx_error("%s", e.what());
    return 1;
  }
  return 0;
}

// Times its own lifetime on a recorded thread that helps another one.
class Helped {
 public:
  explicit Helped(std::thread::id owner)
      : to_(std::this_thread::get_id() == owner ? nullptr : recording),
        start_(to_ ? clock_ns() : 0) {}
  ~Helped() {
    if (to_) {
      to_->helped_ns.fetch_add(clock_ns() - start_, std::memory_order_relaxed);
    }
  }
  Helped(const Helped &) = delete;

 private:
  Recorder *const to_;
  const int64_t start_;
};

// Calls range(first, last) for at most parts ranges of 0 to n - 1, each on a
// thread and of at least least items.
template <class Range>
void share(int n, int parts, int least, const Range &range) {
  parts = std::max(1, std::min(parts, n / least));
  Recorder *const recorder = recording;
  const std::thread::id owner = std::this_thread::get_id();
  run_in_parts(parts, [&](int part) {
    const Recording here(recorder);
    const Helped helped(owner);
    range(static_cast<int>(int64_t{n} * part / parts),
          static_cast<int>(int64_t{n} * (part + 1) / parts));
  });
}

// Computing fewer rows takes less time than waking a helper.
constexpr int least_rows = 12;

size_t offset(int rows, int columns) { return static_cast<size_t>(rows) * columns; }

int rows_of(mlx_array x) { return mlx_array_get_(x).shape(0); }
int columns_of(mlx_array x) { return mlx_array_get_(x).shape(1); }
int size_of(mlx_array x) { return static_cast<int>(mlx_array_get_(x).size()); }

} // namespace

int pack_linear(mlx_array *res, mlx_array weight, mlx_array bias, Factors factors) {
  return guarded(res, [&] {
    const mx::array &w = mlx_array_get_(weight);
    const int out = w.shape(0), in = w.shape(1);
    const size_t size = packed_size(out, in, factors);
    mx::array packed(mx::allocator::malloc(size * sizeof(float)), {static_cast<int>(size)},
                     mx::float32);
    pack(w.data<float>(), mlx_array_get_(bias).data<float>(), out, in, factors,
         packed.data<float>());
    return packed;
  });
}

int pack_small_linear(mlx_array *res, mlx_array numbers, mlx_array scales, mlx_array biases,
                      mlx_array bias, Factors factors) {
  return guarded(res, [&] {
    const SmallFormat format = small_format(factors);
    const mx::array &s = mlx_array_get_(scales);
    const SmallMatrix weight = {
        reinterpret_cast<const uint8_t *>(mlx_array_get_(numbers).data<uint32_t>()),
        s.data<float>(), mlx_array_get_(biases).data<float>(), format};
    const int out = s.shape(0), in = s.shape(1) * format.group;
    const size_t size = small_packed_size(out, in, format);
    mx::array packed(mx::allocator::malloc(size * sizeof(float)), {static_cast<int>(size)},
                     mx::float32);
    pack_small(weight, mlx_array_get_(bias).data<float>(), out, in, packed.data<float>());
    return packed;
  });
}

int op_linear(mlx_array *res, mlx_array x, mlx_array packed, int out, Factors factors,
              Activation activation, int parts, mlx_stream s) {
  return guarded(res, [&] {
    const int rows = rows_of(x), in = columns_of(x);
    return kernel("linear", {rows, out}, s, {mlx_array_get_(x), mlx_array_get_(packed)},
                  [=](const Inputs &i, float *y) {
                    share(rows, parts, least_rows, [&](int from, int to) {
                      linear(i.floats(0) + offset(from, in), to - from,
                             {i.floats(1), out, in, factors}, activation, y + offset(from, out));
                    });
                  });
  });
}

int op_linear_add_norm(mlx_array *res, mlx_array x, mlx_array packed, mlx_array residual,
                       NormArrays norm, Factors factors, int parts, mlx_stream s) {
  return guarded(res, [&] {
    const int rows = rows_of(x), in = columns_of(x), out = columns_of(residual);
    return kernel(
        "linear_add_norm", {rows, out}, s, inputs_of({x, packed, residual, norm.weight, norm.bias}),
        [=, epsilon = norm.epsilon](const Inputs &i, float *y) {
          share(rows, parts, least_rows, [&](int from, int to) {
            linear_add_norm(i.floats(0) + offset(from, in), to - from,
                            {i.floats(1), out, in, factors}, i.floats(2) + offset(from, out),
                            {i.floats(3), i.floats(4), epsilon}, y + offset(from, out));
          });
        });
  });
}

int op_feed_forward(mlx_array *res, mlx_array x, FeedForwardArrays f, Factors factors, int parts,
                    mlx_stream s) {
  return guarded(res, [&] {
    const int rows = rows_of(x), hidden = columns_of(x);
    return kernel("feed_forward", {rows, hidden}, s,
                  inputs_of({x, f.inner_packed, f.outer_packed, f.norm.weight, f.norm.bias}),
                  [=](const Inputs &i, float *y) {
                    const FeedForward block = {{i.floats(1), f.inner, hidden, factors},
                                               f.gated,
                                               f.activation,
                                               {i.floats(2), hidden, f.outer_in, factors},
                                               {i.floats(3), i.floats(4), f.norm.epsilon},
                                               f.pre_norm};
                    share(rows, parts, least_rows, [&](int from, int to) {
                      feed_forward(i.floats(0) + offset(from, hidden), to - from, block,
                                   y + offset(from, hidden));
                    });
                  });
  });
}

int op_layer_norm(mlx_array *res, mlx_array x, NormArrays norm, int parts, mlx_stream s) {
  return guarded(res, [&] {
    const int rows = rows_of(x), columns = columns_of(x);
    return kernel("layer_norm", {rows, columns}, s, inputs_of({x, norm.weight, norm.bias}),
                  [=, epsilon = norm.epsilon](const Inputs &i, float *y) {
                    share(rows, parts, least_rows, [&](int from, int to) {
                      layer_norm(i.floats(0) + offset(from, columns), to - from, columns,
                                 {i.floats(1), i.floats(2), epsilon}, y + offset(from, columns));
                    });
                  });
  });
}

int op_attention(mlx_array *res, mlx_array qkv, mlx_array lengths, int heads,
                 PositionArrays positions, Factors factors, int parts, mlx_stream s) {
  return guarded(res, [&] {
    const int tokens = rows_of(qkv), hidden = columns_of(qkv) / 3, pairs = size_of(lengths);
    return kernel("attention", {tokens, hidden}, s,
                  inputs_of({qkv, lengths, positions.cos, positions.sin}),
                  [=, window = positions.window](const Inputs &i, float *y) {
                    share(heads, std::min(parts, tokens / least_rows), 1, [&](int from, int to) {
                      attention(i.floats(0), i.ints(1), pairs, {heads, hidden / heads, from, to},
                                {window, i.floats(2), i.floats(3)}, factors, y);
                    });
                  });
  });
}

int op_attention_cls(mlx_array *res, mlx_array query, mlx_array key_value, mlx_array lengths,
                     int heads, PositionArrays positions, Factors factors, int parts,
                     mlx_stream s) {
  return guarded(res, [&] {
    const int pairs = rows_of(query), hidden = columns_of(query), tokens = rows_of(key_value);
    return kernel("attention_cls", {pairs, hidden}, s,
                  inputs_of({query, key_value, lengths, positions.cos, positions.sin}),
                  [=, window = positions.window](const Inputs &i, float *y) {
                    share(heads, std::min(parts, tokens / least_rows), 1, [&](int from, int to) {
                      attention_cls(i.floats(0), i.floats(1), i.ints(2), pairs,
                                    {heads, hidden / heads, from, to},
                                    {window, i.floats(3), i.floats(4)}, factors, y);
                    });
                  });
  });
}

int op_embed(mlx_array *res, mlx_array ids, mlx_array type_ids, mlx_array lengths,
             EmbeddingArrays e, mlx_stream s) {
  return guarded(res, [&] {
    const int tokens = size_of(ids), pairs = size_of(lengths);
    return kernel(
        "embed", {tokens, e.size}, s,
        inputs_of({ids, type_ids, lengths, e.types, e.norm.weight, e.norm.bias, e.positions}),
        [=](const Inputs &i, float *y) {
          embed({e.words,
                 i.floats(3),
                 i.floats(6),
                 e.first_position,
                 e.size,
                 {i.floats(4), i.floats(5), e.norm.epsilon},
                 e.small_words},
                i.ints(0), i.ints(1), i.ints(2), pairs, y);
        });
  });
}

int op_pool(mlx_array *res, mlx_array x, mlx_array lengths, Pooling way, mlx_stream s) {
  return guarded(res, [&] {
    const int hidden = columns_of(x), pairs = size_of(lengths);
    return kernel(
        "pool", {pairs, hidden}, s, inputs_of({x, lengths}),
        [=](const Inputs &i, float *y) { pool(i.floats(0), i.ints(1), pairs, hidden, way, y); });
  });
}

} // namespace mlxrank::cpu
