package mlx

import "os"

// testDeviceEnv is the environment variable that names the device for the tests
// of sessions that any device passes: cpu, or gpu, where they fail if there is
// none. make verify-mac sets it.
const testDeviceEnv = "MLXRANK_TEST_DEVICE"

func testDevice() Device {
	if device := os.Getenv(testDeviceEnv); device != "" {
		return Device(device)
	}
	return CPU
}
