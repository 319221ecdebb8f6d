package server

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A healthCheck remembers the last probe of an engine that has failed. There is at most
// one a second.
type healthCheck struct {
	mu   sync.Mutex
	last time.Time
	err  error
}

const probeTime = 5 * time.Second

// healthy reports whether all loaded models score. A model that is not loaded, or cannot
// be, is not a fault of the device.
func (s *Server) healthy(ctx context.Context) error {
	for _, model := range s.Models.loaded() {
		if err := model.healthy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// healthy reports whether the model scores. It probes the device only after a failed
// batch.
func (m *loadedModel) healthy(ctx context.Context) error {
	if m.Stats().Unhealthy == nil {
		return nil
	}
	h := &m.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.last) > time.Second {
		ctx, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		h.err = m.Healthy(ctx)
		h.last = time.Now()
		return h.err
	}
	if h.err != nil {
		return h.err
	}
	return m.Stats().Unhealthy // a batch may have failed since the probe
}

type readiness struct {
	Status string `json:"status" enum:"ready"`
}

// modelInfo describes the default model and the server. It has TEI's field names, and
// further fields that TEI lacks.
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

	Cache *cacheInfo `json:"cache,omitempty" doc:"Absent without a cache"`

	Calibration *telemetry.Calibration `json:"calibration,omitempty" doc:"A score is sigmoid((logit - shift) / temperature); absent if scores are not calibrated"`

	Limits limitsInfo    `json:"limits"`
	Models []ServedModel `json:"models" nullable:"false" doc:"All models, the default one first"`
}

// limitsInfo has what a request and the server may have at most.
type limitsInfo struct {
	Documents          int   `json:"documents" doc:"Of a request"`
	Characters         int   `json:"characters" doc:"Of a request's queries and documents"`
	BodyBytes          int64 `json:"body_bytes" doc:"Of a request, decompressed"`
	TokensPerPair      int   `json:"tokens_per_pair" doc:"Longer pairs are truncated; 0 before the default model is first loaded"`
	QueueTokens        int   `json:"queue_tokens" doc:"Of all admitted requests of a model; 0 before the default model is first loaded"`
	ConcurrentRequests int   `json:"concurrent_requests"`
	RequestTimeoutMS   int64 `json:"request_timeout_ms"`
	ModelBytes         int64 `json:"model_bytes,omitempty" doc:"Weights of all loaded models; absent without a limit"`
}

// A ServedModel describes a model that requests may name.
type ServedModel struct {
	ID             string   `json:"id"`
	Aliases        []string `json:"aliases" nullable:"false"`
	Default        bool     `json:"default" doc:"It answers requests that name no model"`
	State          string   `json:"state" enum:"unloaded,loading,loaded,unloading,failed" doc:"A request loads a model that is unloaded, or that failed to load some seconds ago"`
	DType          string   `json:"model_dtype,omitempty" doc:"Like the fields below it is absent until the model is first loaded"`
	Device         string   `json:"device,omitempty"`
	Adapter        string   `json:"adapter,omitempty"`
	Labels         []string `json:"labels,omitempty" doc:"Absent for a model with one label"`
	Label          string   `json:"label,omitempty" doc:"It makes the scores of rankings"`
	MaxInputLength int      `json:"max_input_length,omitempty" doc:"Tokens of a pair"`
	WeightBytes    int64    `json:"weight_bytes,omitempty" doc:"Memory of the weights while the model is loaded"`
	Running        int      `json:"running_requests" doc:"Requests that hold the model"`
	Requests       int64    `json:"requests" doc:"Answered with scores since the start"`
	Pairs          int64    `json:"pairs" doc:"Scored since the start"`
	LastUse        int64    `json:"last_use_ms,omitempty" doc:"Unix time; absent before the first load"`
}

// cacheInfo describes the cache in /info.
type cacheInfo struct {
	LimitBytes int64 `json:"limit_bytes" doc:"Limit of the memory"`
	Disk       bool  `json:"disk" doc:"Results are kept on disk too"`
}

// newCacheInfo returns nil without a cache.
func newCacheInfo(c *engine.CacheInfo) *cacheInfo {
	if c == nil {
		return nil
	}
	return &cacheInfo{c.LimitBytes, c.Disk}
}

func (s *Server) getHealth(ctx context.Context) (any, *failure) {
	if err := s.healthy(ctx); err != nil {
		return nil, failf(http.StatusServiceUnavailable, kindUnhealthy, "unhealthy: %s", plain(err))
	}
	return nil, nil
}

func (s *Server) getReady(ctx context.Context) (any, *failure) {
	if s.retiring.Load() {
		return nil, failStopping()
	}
	if _, f := s.getHealth(ctx); f != nil {
		return nil, f
	}
	return readiness{"ready"}, nil
}

func (s *Server) getInfo(context.Context) (any, *failure) {
	info := s.Models.Info()
	label := cmp.Or(info.Label, "LABEL_0")
	return modelInfo{
		ModelID: info.Model, ModelDType: string(info.DType), ServedModelName: s.Models.defaultName(),
		ModelType: map[string]any{"reranker": map[string]any{
			"id2label": map[string]string{"0": label}, "label2id": map[string]int{label: 0},
		}},
		MaxConcurrentRequests: s.Limits.Requests, MaxInputLength: info.MaxLength, MaxBatchTokens: info.MaxBatchTokens,
		MaxBatchRequests: info.MaxBatch, MaxClientBatchSize: s.Limits.Documents, AutoTruncate: true, Version: s.Version,
		Adapter: info.Adapter, Device: string(info.Device), DeviceName: info.DeviceName, Kernels: info.Kernels, MLX: info.Library.MLX,
		Variant: info.Choice.Variant, Build: info.Library.Build, NAX: info.Library.NAX, Variants: info.Choice.Milliseconds(),
		Calibration: info.Summary().Calibration, Cache: newCacheInfo(info.Cache),
		Limits: limitsInfo{
			Documents: s.Limits.Documents, Characters: s.Limits.Characters, BodyBytes: s.Limits.BodyBytes,
			TokensPerPair: info.MaxLength, QueueTokens: info.QueueTokens, ConcurrentRequests: s.Limits.Requests,
			RequestTimeoutMS: s.Limits.RequestTimeout.Milliseconds(), ModelBytes: s.Models.MaxBytes,
		},
		Models: s.Models.List(),
	}, nil
}
