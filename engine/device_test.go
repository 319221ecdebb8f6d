package engine

import (
	"os"

	"github.com/mlxrank/mlxrank/mlx"
)

// testDeviceEnv is the environment variable that names the device for the tests
// that open a model: cpu, or gpu, where they fail if there is none. make
// verify-mac sets it.
const testDeviceEnv = "MLXRANK_TEST_DEVICE"

func testDevice() mlx.Device {
	if device := os.Getenv(testDeviceEnv); device != "" {
		return mlx.Device(device)
	}
	return mlx.CPU
}

// apart is how far a pair's float32 logits may be from one batch to another. A
// GPU takes other kernels, with sums in another order, for other shapes.
func apart() float64 {
	if testDevice() == mlx.GPU {
		return exactness
	}
	return 1e-5
}

// halfPrecision is the format that half precision is used in: float16 is a GPU's
// default; processors have products of bfloat16.
func halfPrecision() mlx.DType {
	if testDevice() == mlx.GPU {
		return mlx.Float16
	}
	return mlx.BFloat16
}
