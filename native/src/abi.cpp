// The exported functions. They check arguments, look up handles, and turn
// exceptions into a status and a message.

#include <cstdio>
#include <map>
#include <memory>
#include <mutex>

#include "error.h"
#include "evaluator.h"
#include "exit.h"
#include "info.h"
#include "mlx/c/mlx.h"
#include "mlxrank.h"
#include "model.h"
#include "session.h"
#include "variant.h"
#include "workers.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace mlxrank {

namespace {

// Objects by handle. A handle is never reused.
template <class T>
class Registry {
 public:
  explicit Registry(const char *kind) : kind_(kind) {}

  int64_t add(std::shared_ptr<T> object) {
    std::lock_guard<std::mutex> lock(mutex_);
    objects_[++last_] = std::move(object);
    return last_;
  }
  std::shared_ptr<T> get(int64_t handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    return find(handle)->second;
  }
  std::shared_ptr<T> remove(int64_t handle) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = find(handle);
    std::shared_ptr<T> object = std::move(found->second);
    objects_.erase(found);
    return object;
  }
  int32_t count() {
    std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int32_t>(objects_.size());
  }

 private:
  typename std::map<int64_t, std::shared_ptr<T>>::iterator find(int64_t handle) {
    auto found = objects_.find(handle);
    if (found == objects_.end()) {
      invalid(std::string(kind_) + " " + std::to_string(handle) + " is not open");
    }
    return found;
  }

  const char *kind_;
  std::mutex mutex_;
  std::map<int64_t, std::shared_ptr<T>> objects_;
  int64_t last_ = 0;
};

// Leaked: workers may still run while the process exits.
Registry<const Model> &models() {
  static auto *registry = new Registry<const Model>("model");
  return *registry;
}

Registry<Session> &sessions() {
  static auto *registry = new Registry<Session>("session");
  return *registry;
}

template <class Body>
int32_t guard(char *err, int32_t err_len, Body body) noexcept {
  const std::optional<Error> error = attempt(body);
  if (!error) {
    return MLXRANK_OK;
  }
  if (err != nullptr && err_len > 0) {
    std::snprintf(err, static_cast<size_t>(err_len), "%s", error->what());
  }
  return error->status;
}

// Every struct begins with its size, which detects a caller built for another
// layout before a field is read.
template <class T>
void check_struct(const T *s, const char *name) {
  if (s == nullptr) {
    invalid(std::string(name) + " is missing");
  }
  if (s->size != static_cast<int32_t>(sizeof(T))) {
    invalid(std::string(name) + " has size " + std::to_string(s->size) + ", want " +
            std::to_string(sizeof(T)));
  }
}

void check_out(const void *out, const char *name) {
  if (out == nullptr) {
    invalid(std::string("no room for the ") + name);
  }
}

std::shared_ptr<Session> owned_session(int64_t handle) {
  std::shared_ptr<Session> session = sessions().get(handle);
  session->check_thread();
  return session;
}

void set_limit(int (*set)(size_t *, size_t), int64_t limit, const char *name) {
  size_t before = 0;
  if (limit >= 0) {
    check(set(&before, static_cast<size_t>(limit)), name);
  }
}

int64_t figure(int (*get)(size_t *), const char *name) {
  size_t value = 0;
  check(get(&value), name);
  return static_cast<int64_t>(value);
}

} // namespace

} // namespace mlxrank

using namespace mlxrank;

EXPORT int32_t mlxrank_abi(void) { return MLXRANK_ABI; }

EXPORT int32_t mlxrank_handshake(int32_t abi, mlxrank_info *info, char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    if (abi != MLXRANK_ABI) {
      throw Error(MLXRANK_ABI_MISMATCH, "libmlxrank has ABI " + std::to_string(MLXRANK_ABI) +
                                            ", the caller wants " + std::to_string(abi));
    }
    check_struct(info, "mlxrank_info");
    const Busy busy;
    install_error_handler();
    fill_info(info);
    keep_blas_single_threaded();
  });
}

EXPORT int32_t mlxrank_device_info(int32_t device, mlxrank_device *out, char *err,
                                   int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(out, "mlxrank_device");
    const Busy busy;
    install_error_handler();
    fill_device(device, out);
  });
}

EXPORT int32_t mlxrank_memory_info(mlxrank_memory *out, char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(out, "mlxrank_memory");
    install_error_handler();
    out->models = models().count();
    out->sessions = sessions().count();
    out->workers = workers_started() + Evaluator::threads_started();
    const Busy busy;
    out->active = figure(mlx_get_active_memory, "active memory");
    out->cache = figure(mlx_get_cache_memory, "cache memory");
    out->peak = figure(mlx_get_peak_memory, "peak memory");
    out->memory_limit = figure(mlx_get_memory_limit, "memory limit");
  });
}

EXPORT int32_t mlxrank_set_limits(int64_t cache, int64_t memory, char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    const Busy busy;
    install_error_handler();
    set_limit(mlx_set_cache_limit, cache, "set cache limit");
    set_limit(mlx_set_memory_limit, memory, "set memory limit");
  });
}

EXPORT int32_t mlxrank_trim(char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    const Busy busy;
    install_error_handler();
    check(mlx_clear_cache(), "clear cache");
    check(mlx_reset_peak_memory(), "reset peak memory");
  });
}

EXPORT int32_t mlxrank_model_open(const mlxrank_config *config, const mlxrank_tensor *tensors,
                                  int32_t count, int64_t *model, char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(config, "mlxrank_config");
    check_out(model, "model");
    install_error_handler();
    check_device(config->device);
    *model = models().add(open_model(*config, tensors, count));
  });
}

EXPORT int32_t mlxrank_model_close(int64_t model, char *err, int32_t err_len) {
  return guard(err, err_len, [&] { models().remove(model); });
}

EXPORT int32_t mlxrank_model_variants(int64_t model, mlxrank_variants *out, char *err,
                                      int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(out, "mlxrank_variants");
    const std::shared_ptr<const Model> found = models().get(model);
    out->count = 0;
    for (const Variant &v : variants_of(*found)) {
      std::snprintf(out->names[out->count++], sizeof out->names[0], "%s", v.name);
    }
  });
}

EXPORT int32_t mlxrank_session_open(int64_t model, const mlxrank_options *options, int64_t *session,
                                    char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(options, "mlxrank_options");
    check_out(session, "session");
    *session = sessions().add(std::make_shared<Session>(models().get(model), *options));
  });
}

EXPORT int32_t mlxrank_session_layout(int64_t session, mlxrank_layout *out, char *err,
                                      int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(out, "mlxrank_layout");
    sessions().get(session)->fill_layout(out);
  });
}

EXPORT int32_t mlxrank_session_matmuls(int64_t session, mlxrank_matmuls *out, char *err,
                                       int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(out, "mlxrank_matmuls");
    sessions().get(session)->fill_matmuls(out);
  });
}

EXPORT int32_t mlxrank_session_profile(int64_t session, int32_t on, char *err, int32_t err_len) {
  return guard(err, err_len, [&] { sessions().get(session)->profile(on != 0); });
}

EXPORT int32_t mlxrank_session_profile_read(int64_t session, mlxrank_profile *out, char *err,
                                            int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(out, "mlxrank_profile");
    sessions().get(session)->read_profile(out);
  });
}

EXPORT int32_t mlxrank_session_close(int64_t session, char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    owned_session(session);
    sessions().remove(session);
  });
}

EXPORT int32_t mlxrank_submit(int64_t session, const mlxrank_batch *batch, int64_t *ticket,
                              char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    check_struct(batch, "mlxrank_batch");
    check_out(ticket, "ticket");
    *ticket = owned_session(session)->submit(*batch);
  });
}

EXPORT int32_t mlxrank_collect(int64_t session, int64_t ticket, float *out, int64_t out_len,
                               mlxrank_stats *stats, char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    if (stats != nullptr) {
      check_struct(stats, "mlxrank_stats");
    }
    sessions().get(session)->collect(ticket, out, out_len, stats);
  });
}

EXPORT int32_t mlxrank_debug_activations(int64_t session, const int32_t *ids,
                                         const int32_t *type_ids, int32_t length, const char *file,
                                         char *err, int32_t err_len) {
  return guard(err, err_len, [&] {
    if (file == nullptr) {
      invalid("file is missing");
    }
    sessions().get(session)->write_activations(ids, type_ids, length, file);
  });
}
