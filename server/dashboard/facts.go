package dashboard

import "time"

// Facts are what does not change while the server runs.
type Facts struct {
	Version    string `json:"version"`
	StartedMS  int64  `json:"started_ms"` // Unix time
	Model      string `json:"model"`
	Adapter    string `json:"adapter"`
	Label      string `json:"label"`
	Device     string `json:"device"`
	DeviceName string `json:"device_name"`
	DType      string `json:"dtype"`
	Kernels    string `json:"kernels"`
	MLX        string `json:"mlx"`
	Activation string `json:"activation"`
	Policy     string `json:"policy"`
	MaxLength  int    `json:"max_length"`
	MaxBatch   int    `json:"max_batch"`
	History    int    `json:"history_rows"` // the most that are kept
}

func (d *Dashboard) describe() Facts {
	info := d.engine.Info()
	stats := d.engine.Stats()
	return Facts{
		Version: d.Version, StartedMS: time.Now().Add(-stats.Elapsed).UnixMilli(),
		Model: info.Model, Adapter: info.Adapter, Label: info.Label,
		Device: info.Device, DeviceName: info.DeviceName, DType: info.DType, Kernels: info.Kernels, MLX: info.Library.MLXFound,
		Activation: info.Activation, Policy: info.Policy, MaxLength: info.MaxLength, MaxBatch: info.MaxBatch, History: history,
	}
}
