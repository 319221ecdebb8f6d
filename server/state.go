package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// A healthCheck tries an engine that has failed, once a second at most however
// many ask.
type healthCheck struct {
	mu   sync.Mutex
	last time.Time
	err  error
}

const probeTime = 5 * time.Second

// healthy is cheap while the engine's batches succeed.
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
	}
	return h.err
}

type noBody struct{}

type readiness struct {
	Body struct {
		Status string `json:"status" enum:"ready"`
	}
}

// modelInfo has the names of text-embeddings-inference, and what it has none for.
type modelInfo struct {
	ModelID               string         `json:"model_id"`
	ModelSHA              *string        `json:"model_sha" doc:"Not known: always null"`
	ModelDType            string         `json:"model_dtype"`
	ServedModelName       string         `json:"served_model_name"`
	ModelType             map[string]any `json:"model_type"`
	MaxConcurrentRequests int            `json:"max_concurrent_requests"`
	MaxInputLength        int            `json:"max_input_length" doc:"Tokens of a pair"`
	MaxBatchTokens        int            `json:"max_batch_tokens"`
	MaxBatchRequests      int            `json:"max_batch_requests" doc:"Pairs of a batch"`
	MaxClientBatchSize    int            `json:"max_client_batch_size" doc:"Documents of a call"`
	AutoTruncate          bool           `json:"auto_truncate"`
	Version               string         `json:"version"`

	Adapter    string `json:"adapter,omitempty"`
	Device     string `json:"device"`
	DeviceName string `json:"device_name"`
	Kernels    string `json:"kernels"`
	MLX        string `json:"mlx_version"`
}

type modelInfoOutput struct{ Body modelInfo }

func (s *Server) registerState(api huma.API) {
	get := func(path, id, summary string, statuses ...int) huma.Operation {
		op := huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{"state"}}
		if s.Key != "" && !isOpen(http.MethodGet, path) {
			op.Security = []map[string][]string{{"key": {}}}
			statuses = append(statuses, http.StatusUnauthorized)
		}
		s.describeErrors(api, &op, errorOf(path), append(statuses, http.StatusForbidden))
		return op
	}
	for path, id := range map[string]string{"/health": "health", "/ping": "ping", "/": "health-root"} {
		health := get(path, id, "Whether the engine scores", http.StatusServiceUnavailable)
		health.DefaultStatus = http.StatusOK
		huma.Register(api, health, s.getHealth)
	}
	huma.Register(api, get("/ready", "ready", "Whether calls are taken in", http.StatusServiceUnavailable), s.getReady)
	huma.Register(api, get("/info", "info", "What is served"), s.getInfo)
	huma.Register(api, get("/v1/models", "models", "What is served, as OpenAI's API lists models"), s.getModels)
}

func (s *Server) getHealth(ctx context.Context, _ *noBody) (*noBody, error) {
	if err := s.healthy(ctx); err != nil {
		return nil, failf(http.StatusServiceUnavailable, kindUnhealthy, "unhealthy: %s", plain(err))
	}
	return &noBody{}, nil
}

func (s *Server) getReady(ctx context.Context, _ *noBody) (*readiness, error) {
	if s.isDraining() {
		return nil, failStopping()
	}
	if err := s.healthy(ctx); err != nil {
		return nil, failf(http.StatusServiceUnavailable, kindUnhealthy, "unhealthy: %s", plain(err))
	}
	out := &readiness{}
	out.Body.Status = "ready"
	return out, nil
}

func (s *Server) getInfo(context.Context, *noBody) (*modelInfoOutput, error) {
	info := s.Engine.Info()
	label := orElse(info.Label, "LABEL_0")
	return &modelInfoOutput{modelInfo{
		ModelID: info.Model, ModelDType: info.DType, ServedModelName: info.Model,
		ModelType: map[string]any{"reranker": map[string]any{
			"id2label": map[string]string{"0": label}, "label2id": map[string]int{label: 0},
		}},
		MaxConcurrentRequests: s.Limits.Requests, MaxInputLength: info.MaxLength, MaxBatchTokens: info.MaxBatchTokens,
		MaxBatchRequests: info.MaxBatch, MaxClientBatchSize: s.Limits.Documents, AutoTruncate: true, Version: s.Version,
		Adapter: info.Adapter, Device: info.Device, DeviceName: info.DeviceName, Kernels: info.Kernels, MLX: info.Library.MLXFound,
	}}, nil
}
