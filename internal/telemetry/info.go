package telemetry

// Info names what an engine runs, as logs, results, the dashboard and the C API
// print it.
type Info struct {
	Model      string  `json:"model"`
	Adapter    string  `json:"adapter"`
	Label      string  `json:"label"`
	Device     string  `json:"device"`
	DeviceName string  `json:"device_name"`
	DType      string  `json:"dtype"`
	Kernels    string  `json:"kernels"`
	MLX        string  `json:"mlx"`
	MaxLength  int     `json:"max_length"`
	MaxBatch   int     `json:"max_batch"`
	Activation string  `json:"activation"`
	StartupMS  float64 `json:"startup_ms"`
}
