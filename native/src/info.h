// Facts about the library, MLX and the machine.
#pragma once

#include "mlx/c/mlx.h"
#include "mlxrank.h"

namespace mlxrank {

// Both fill every field except size.
void fill_info(mlxrank_info *info);
void fill_device(int32_t device, mlxrank_device *out);

// Returns the bytes that MLX recommends to stay under on a GPU, 0 if unknown.
int64_t gpu_working_set();

// Throws MLXRANK_NO_DEVICE unless MLX can use the device.
void check_device(int32_t device);

// Returns how many processors this process may use, at least 1.
int processors();

// Keeps float32 matmuls exact. MLX computes them with 10-bit mantissas on GPUs
// that support it (M5), unless MLX_ENABLE_TF32 is 0. MLX reads the variable once,
// at its first matmul, which this function runs. A value that the user set stays,
// and the environment is unchanged afterwards. Call it on a thread with the GPU's
// stream.
void keep_float32_exact(mlx_stream gpu);

// Limits BLAS to one thread for the whole process, because the workers already
// use every core.
void keep_blas_single_threaded();

} // namespace mlxrank
