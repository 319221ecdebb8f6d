#include "info.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "array.h"
#include "error.h"
#include "mlx/c/mlx.h"
#include "mlx/version.h"

#ifdef __linux__
// Weak: null if libmlx uses a BLAS other than OpenBLAS.
extern "C" {
__attribute__((weak)) void openblas_set_num_threads(int);
__attribute__((weak)) char *openblas_get_config(void);
__attribute__((weak)) char *openblas_get_corename(void);
}
#endif

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

namespace mlxrank {

namespace {

constexpr char mlx_built[] =
    TEXT(MLX_VERSION_MAJOR) "." TEXT(MLX_VERSION_MINOR) "." TEXT(MLX_VERSION_PATCH);

template <size_t n>
void put(char (&field)[n], const std::string &value) {
  std::snprintf(field, n, "%s", value.c_str());
}

std::string loaded_mlx_path() {
  Dl_info found;
  if (dladdr(reinterpret_cast<const void *>(&mlx::core::version), &found) == 0) {
    return "";
  }
  return found.dli_fname;
}

std::string blas() {
#ifdef __linux__
  if (openblas_get_config != nullptr && openblas_get_corename != nullptr) {
    return std::string(openblas_get_config()) + ", running as " + openblas_get_corename();
  }
  return "not OpenBLAS: expect a small fraction of its speed";
#else
  return "Accelerate";
#endif
}

// An mlx_device that frees itself.
struct Device {
  explicit Device(int32_t device)
      : handle(mlx_device_new_type(device == MLXRANK_GPU ? MLX_GPU : MLX_CPU, 0)) {}
  ~Device() { mlx_device_free(handle); }
  mlx_device handle;
};

struct DeviceInfo {
  explicit DeviceInfo(const Device &device) : handle(mlx_device_info_new()) {
    check(mlx_device_info_get(&handle, device.handle), "device info");
  }
  ~DeviceInfo() { mlx_device_info_free(handle); }

  bool has(const char *key) const {
    bool found = false;
    check(mlx_device_info_has_key(&found, handle, key), "device info");
    return found;
  }
  std::string text(const char *key) const {
    const char *value = "";
    if (has(key)) {
      check(mlx_device_info_get_string(&value, handle, key), key);
    }
    return value;
  }
  int64_t number(const char *key) const {
    size_t value = 0;
    if (has(key)) {
      check(mlx_device_info_get_size(&value, handle, key), key);
    }
    return static_cast<int64_t>(value);
  }
  mlx_device_info handle;
};

// Returns the metallib of an app bundle, "" if MLX finds one itself. MLX looks
// beside libmlx and in a Resources folder there. In a bundle libmlx is in
// Frameworks, which may hold only code, so the metallib is in ../Resources.
std::string bundled_metallib(const std::string &mlx_path) {
  const std::filesystem::path folder = std::filesystem::path(mlx_path).parent_path();
  const std::filesystem::path bundled = folder.parent_path() / "Resources" / "mlx.metallib";
  std::error_code none;
  for (const auto &own : {folder / "mlx.metallib", folder / "Resources" / "mlx.metallib"}) {
    if (std::filesystem::exists(own, none)) {
      return "";
    }
  }
  return std::filesystem::exists(bundled, none) ? bundled.string() : "";
}

// The matrices are large enough that MLX does not treat them as vectors.
void first_matmul(mlx_stream gpu) {
  const int shape[2] = {64, 64};
  const Array a = checked_call("ones", mlx_ones, shape, 2, MLX_FLOAT32, gpu);
  const Array product = checked_call("first matmul", mlx_matmul, mlx_array(a), mlx_array(a), gpu);
  eval({&product});
}

int gpus() {
  int count = 0;
  check(mlx_device_count(&count, MLX_GPU), "device count");
  return count;
}

} // namespace

void fill_info(mlxrank_info *info) {
  put(info->mlx_built, mlx_built);
  put(info->mlx_found, mlx::core::version());
  put(info->mlx_c, MLXRANK_MLX_C_VERSION);
  put(info->mlx_path, loaded_mlx_path());
  put(info->blas, blas());
  info->cpus = processors();
  if (std::string(info->mlx_built) != info->mlx_found) {
    throw Error(MLXRANK_ABI_MISMATCH, "libmlxrank was compiled against MLX " +
                                          std::string(info->mlx_built) + " but found MLX " +
                                          info->mlx_found + " at " + info->mlx_path);
  }
  // No other function of a libmlx that does not match may be called. The metallib
  // must be set before Metal is first used.
  put(info->metallib, bundled_metallib(info->mlx_path));
  if (info->metallib[0] != 0) {
    check(mlx_metal_set_metallib_path(info->metallib), "set metallib path");
  }
  info->gpus = gpus();
}

void fill_device(int32_t device, mlxrank_device *out) {
  check_device(device);
  DeviceInfo info{Device(device)};
  put(out->name, info.text("device_name"));
  put(out->architecture, info.text("architecture"));
  out->memory = info.number("memory_size");
  out->working_set = info.number("max_recommended_working_set_size");
}

int64_t gpu_working_set() {
  return DeviceInfo{Device(MLXRANK_GPU)}.number("max_recommended_working_set_size");
}

void check_device(int32_t device) {
  if (device != MLXRANK_CPU && device != MLXRANK_GPU) {
    invalid("device " + std::to_string(device) + " is unknown");
  }
  bool available = false;
  check(mlx_device_is_available(&available, Device(device).handle), "device is available");
  if (!available) {
    throw Error(MLXRANK_NO_DEVICE, std::string("MLX ") + mlx_built + " finds no " +
                                       (device == MLXRANK_GPU ? "GPU" : "CPU") +
                                       " it can use on this machine");
  }
}

int processors() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

void keep_float32_exact(mlx_stream gpu) {
  const char *name = "MLX_ENABLE_TF32";
  if (std::getenv(name) != nullptr) {
    return;
  }
  setenv(name, "0", 1);
  try {
    first_matmul(gpu);
  } catch (...) {
    unsetenv(name);
    throw;
  }
  unsetenv(name);
}

void keep_blas_single_threaded() {
#ifdef __linux__
  if (openblas_set_num_threads != nullptr) {
    openblas_set_num_threads(1);
  }
#endif
}

} // namespace mlxrank
