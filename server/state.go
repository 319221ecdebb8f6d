package server

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A healthCheck probes an engine that has failed, at most once a second.
type healthCheck struct {
	mu   sync.Mutex
	last time.Time
	err  error
}

const probeTime = 5 * time.Second

// healthy reports whether the engine scores. It probes the device only after a
// failed batch.
func (s *Server) healthy(ctx context.Context) error {
	if s.Engine.Stats().Unhealthy == nil {
		return nil
	}
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.last) > time.Second {
		ctx, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		h.err = s.Engine.Healthy(ctx)
		h.last = time.Now()
		return h.err
	}
	if h.err != nil {
		return h.err
	}
	return s.Engine.Stats().Unhealthy // a batch may have failed since the probe
}

type readiness struct {
	Status string `json:"status" enum:"ready"`
}

// modelInfo has TEI's field names, and further fields that TEI lacks.
type modelInfo struct {
	ModelID               string         `json:"model_id"`
	ModelSHA              *string        `json:"model_sha" doc:"Always null"`
	ModelDType            string         `json:"model_dtype"`
	ServedModelName       string         `json:"served_model_name"`
	ModelType             map[string]any `json:"model_type"`
	MaxConcurrentRequests int            `json:"max_concurrent_requests"`
	MaxInputLength        int            `json:"max_input_length" doc:"Tokens of a pair"`
	MaxBatchTokens        int            `json:"max_batch_tokens"`
	MaxBatchRequests      int            `json:"max_batch_requests" doc:"Pairs of a batch"`
	MaxClientBatchSize    int            `json:"max_client_batch_size" doc:"Documents of a request"`
	AutoTruncate          bool           `json:"auto_truncate"`
	Version               string         `json:"version"`

	Adapter    string `json:"adapter,omitempty"`
	Device     string `json:"device"`
	DeviceName string `json:"device_name"`
	Kernels    string `json:"kernels"`
	Variant    string `json:"variant,omitempty" doc:"Of the unfused graph, absent until it is chosen"`
	Build      string `json:"mlx_build,omitempty" doc:"Of MLX for macOS"`
	NAX        bool   `json:"nax,omitempty" doc:"MLX uses the matrix units of M5's GPU"`
	// Variants has the milliseconds of each variant that was timed.
	Variants map[string]float64 `json:"variants_ms,omitempty" doc:"Time of each variant that was timed"`
	MLX      string             `json:"mlx_version"`

	Calibration *telemetry.Calibration `json:"calibration,omitempty" doc:"A score is sigmoid((logit - shift) / temperature); absent if scores are not calibrated"`
}

func (s *Server) getHealth(ctx context.Context) (any, *failure) {
	if err := s.healthy(ctx); err != nil {
		return nil, failf(http.StatusServiceUnavailable, kindUnhealthy, "unhealthy: %s", plain(err))
	}
	return nil, nil
}

func (s *Server) getReady(ctx context.Context) (any, *failure) {
	if s.isDraining() {
		return nil, failStopping()
	}
	if _, f := s.getHealth(ctx); f != nil {
		return nil, f
	}
	return readiness{"ready"}, nil
}

func (s *Server) getInfo(context.Context) (any, *failure) {
	info := s.Engine.Info()
	label := cmp.Or(info.Label, "LABEL_0")
	return modelInfo{
		ModelID: info.Model, ModelDType: string(info.DType), ServedModelName: info.Model,
		ModelType: map[string]any{"reranker": map[string]any{
			"id2label": map[string]string{"0": label}, "label2id": map[string]int{label: 0},
		}},
		MaxConcurrentRequests: s.Limits.Requests, MaxInputLength: info.MaxLength, MaxBatchTokens: info.MaxBatchTokens,
		MaxBatchRequests: info.MaxBatch, MaxClientBatchSize: s.Limits.Documents, AutoTruncate: true, Version: s.Version,
		Adapter: info.Adapter, Device: string(info.Device), DeviceName: info.DeviceName, Kernels: info.Kernels, MLX: info.Library.MLX,
		Variant: info.Choice.Variant, Build: info.Library.Build, NAX: info.Library.NAX, Variants: info.Choice.Milliseconds(),
		Calibration: info.Summary().Calibration,
	}, nil
}
