package engine

import (
	"os"

	"github.com/mlxrank/mlxrank/mlx"
)

// testDeviceEnv is the environment variable for the device of the tests that open
// a model: cpu or gpu. Without a GPU, tests for gpu fail. make verify-mac sets it.
const testDeviceEnv = "MLXRANK_TEST_DEVICE"

func testDevice() mlx.Device {
	if device := os.Getenv(testDeviceEnv); device != "" {
		return mlx.Device(device)
	}
	return mlx.CPU
}

// apart returns the largest allowed difference of a pair's float32 logits between
// batches. A GPU uses other kernels for other shapes, which sum in another order.
func apart() float64 {
	if testDevice() == mlx.GPU {
		return exactness
	}
	return 1e-5
}

// halfPrecision returns the half-precision format of the device: float16 is a
// GPU's default; CPUs have bfloat16 GEMMs.
func halfPrecision() mlx.DType {
	if testDevice() == mlx.GPU {
		return mlx.Float16
	}
	return mlx.BFloat16
}
