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

// testDTypeEnv is the name of the environment variable for the dtype of the tests
// that any dtype passes. With float16 the CPU computes as a GPU does: on the unfused
// graph, by one thread with several streams.
const testDTypeEnv = "MLXRANK_TEST_DTYPE"

func testDType() DType {
	if dtype := os.Getenv(testDTypeEnv); dtype != "" {
		return DType(dtype)
	}
	return Float32
}

// apart returns the largest allowed difference of a pair's logits between batches. A
// GPU uses other kernels for other shapes, which sum in another order. In float16 a
// sum in another order is rounded to another number.
func apart() float64 {
	if testDType() == Float16 {
		return 0.02
	}
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
