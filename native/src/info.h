// What the library, MLX and the machine are.
#pragma once

#include "mlx/c/mlx.h"
#include "mlxrank.h"

namespace mlxrank {

// Fills all but size.
void fill_info(mlxrank_info *info);
void fill_device(int32_t device, mlxrank_device *out);

// Throws MLXRANK_NO_DEVICE unless MLX can use the device now.
void check_device(int32_t device);

// Processors this process may use, at least 1.
int processors();

// MLX computes float32 products with 10-bit mantissas on GPUs that can (M5),
// unless MLX_ENABLE_TF32 says otherwise; it reads that once, at its first
// product, which is made here. What the user set stays, and the environment is
// left as it was. To be called on a thread with the GPU's stream.
void keep_float32_exact(mlx_stream gpu);

// The lanes are the parallelism: BLAS must not add threads of its own. Its
// count is one for the whole process.
void keep_blas_single_threaded();

} // namespace mlxrank
