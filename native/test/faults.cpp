#include "faults.h"

#include <algorithm>
#include <condition_variable>
#include <limits>
#include <list>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>

#include "../src/faults.h"
#include "../src/model.h"
#include "../src/ops.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/stream.h"
#include "mlx/primitives.h"

namespace mlxrank {

namespace mx = mlx::core;

namespace {

struct Wish {
  std::string fault;
  int32_t left; // microbatches until it comes
};

struct Wishes {
  std::mutex mutex;
  std::condition_variable released;
  std::list<Wish> list;
  uint64_t releases = 0;
  int32_t models_left = 0; // until one has the fault "type", 0 for none
};

// Leaked: a thread that hangs waits on it while the process exits.
Wishes &wishes() {
  static auto *instance = new Wishes;
  return *instance;
}

// Returns the fault that is due with the next microbatch, "" if none is.
std::string next_fault() {
  Wishes &w = wishes();
  std::lock_guard<std::mutex> lock(w.mutex);
  std::string due;
  for (auto i = w.list.begin(); i != w.list.end();) {
    if (--i->left > 0 || !due.empty()) {
      ++i;
      continue;
    }
    due = i->fault;
    i = w.list.erase(i);
  }
  return due;
}

void hang() {
  Wishes &w = wishes();
  std::unique_lock<std::mutex> lock(w.mutex);
  w.released.wait(lock, [&w, before = w.releases] { return w.releases > before; });
}

// Copies logits [pairs, labels] and makes the fault.
class Fault : public mx::UnaryPrimitive {
 public:
  Fault(mx::Stream stream, std::string fault)
      : mx::UnaryPrimitive(stream), fault_(std::move(fault)) {}

  void eval_cpu(const std::vector<mx::array> &inputs, mx::array &out) override {
    if (fault_ == "memory") {
      throw std::bad_alloc();
    }
    if (fault_ == "unknown") {
      throw 42;
    }
    out.set_data(mx::allocator::malloc(out.nbytes()));
    const size_t size = out.size(), last = size - out.shape(1);
    mx::cpu::get_command_encoder(stream()).dispatch(
        [fault = fault_, x = inputs[0].data<float>(), y = out.data<float>(), size, last] {
          if (fault == "late") {
            throw std::runtime_error("injected late error");
          }
          if (fault == "hang") {
            hang();
          }
          std::copy_n(x, size, y);
          if (fault == "nan") {
            y[last] = std::numeric_limits<float>::quiet_NaN();
          }
          if (fault == "wrong") {
            y[last] += 1;
          }
        });
  }
  void eval_gpu(const std::vector<mx::array> &, mx::array &) override {
    throw std::logic_error("faults come on the CPU only");
  }
  const char *name() const override { return "fault"; }

 private:
  std::string fault_;
};

Array with_fault(Array logits, mlx_stream stream) {
  const std::string fault = next_fault();
  if (fault.empty()) {
    return logits;
  }
  const mx::array &from = mlx_array_get_(logits);
  auto primitive = std::make_shared<Fault>(mlx_stream_get_(stream), fault);
  return Array(mlx_array_new_(mx::array(from.shape(), mx::float32, primitive, {from})));
}

// Changes the type of the weights that follow the first layer's attention.
void with_another_type(Model &model, mlx_stream stream) {
  {
    Wishes &w = wishes();
    std::lock_guard<std::mutex> lock(w.mutex);
    if (model.fused || w.models_left == 0 || --w.models_left > 0) {
      return;
    }
  }
  Array &weight = model.layers[0].attention_output.weight;
  const mlx_dtype other = mlx_array_dtype(weight) == MLX_FLOAT32 ? MLX_FLOAT16 : MLX_FLOAT32;
  weight = Ops(stream).astype(weight, other);
  eval({&weight});
}

[[maybe_unused]] const bool hooked =
    (fault_hook = with_fault) != nullptr && (model_hook = with_another_type) != nullptr;

} // namespace

} // namespace mlxrank

extern "C" __attribute__((visibility("default"))) int32_t mlxrank_inject(const char *fault,
                                                                         int32_t nth) {
  mlxrank::Wishes &w = mlxrank::wishes();
  std::lock_guard<std::mutex> lock(w.mutex);
  const std::string name = fault;
  if (name == "release") {
    w.releases++;
    w.list.clear();
    w.models_left = 0;
    w.released.notify_all();
    return 0;
  }
  if (name == "type") {
    w.models_left = nth;
    return 0;
  }
  for (const char *known : {"late", "memory", "unknown", "nan", "wrong", "hang"}) {
    if (name == known) {
      w.list.push_back({name, nth});
      return 0;
    }
  }
  return 1;
}
