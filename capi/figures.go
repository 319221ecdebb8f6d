package main

import (
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/mlx"
)

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// info is what mlxr_info answers.
type info struct {
	Version    string  `json:"version"`
	Model      string  `json:"model"`
	Dir        string  `json:"dir"`
	Device     string  `json:"device"`
	DeviceName string  `json:"device_name"`
	DType      string  `json:"dtype"`
	Kernels    string  `json:"kernels"`
	MaxLength  int     `json:"max_length"`
	Activation string  `json:"activation"`
	Label      string  `json:"label"`
	Library    string  `json:"library"`
	MLX        string  `json:"mlx"`
	MLXPath    string  `json:"mlx_path"`
	StartupMs  float64 `json:"startup_ms"`
}

func infoOf(i engine.Info) info {
	return info{
		Version: engine.Version, Model: i.Model, Dir: i.Dir, Device: i.Device, DeviceName: i.DeviceName, DType: i.DType,
		Kernels: i.Kernels, MaxLength: i.MaxLength, Activation: i.Activation, Label: i.Label,
		Library: i.Library.Path, MLX: i.Library.MLXFound, MLXPath: i.Library.MLXPath, StartupMs: ms(i.Startup.Total),
	}
}

// stats is what mlxr_stats answers.
type stats struct {
	ElapsedS       float64  `json:"elapsed_s"`
	Loaded         bool     `json:"loaded"`
	Unloads        int      `json:"unloads"`
	Requests       int64    `json:"requests"`
	Failed         int64    `json:"failed"`
	Cancelled      int64    `json:"cancelled"`
	Overloaded     int64    `json:"overloaded"`
	TooLarge       int64    `json:"too_large"`
	Pairs          int64    `json:"pairs"`
	Truncated      int64    `json:"truncated"`
	Batches        int64    `json:"batches"`
	Tokens         int64    `json:"tokens"`
	ComputedTokens int64    `json:"computed_tokens"`
	Latency        spread   `json:"latency_ms"`
	Inference      spread   `json:"inference_ms"`
	Tokenization   spread   `json:"tokenization_ms"`
	QueueWait      spread   `json:"queue_wait_ms"`
	Other          spread   `json:"other_ms"`
	Memory         memories `json:"memory"`
}

// spread is of a figure over all calls.
type spread struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

// memories are MLX's counters, in bytes.
type memories struct {
	Active int64 `json:"active_bytes"`
	Cache  int64 `json:"cache_bytes"`
	Peak   int64 `json:"peak_bytes"`
	Limit  int64 `json:"limit_bytes"`
}

func spreadOf(h *engine.Histogram) spread {
	return spread{h.Count, h.Mean(), h.Percentile(50), h.Percentile(95), h.Percentile(99), h.Max}
}

func statsOf(s engine.Stats, m mlx.Memory) stats {
	return stats{
		ElapsedS: s.Elapsed.Seconds(), Loaded: s.Loaded, Unloads: s.Unloads,
		Requests: s.Requests, Failed: s.Failed, Cancelled: s.Cancelled, Overloaded: s.Overloaded + s.Late + s.Dropped, TooLarge: s.TooLarge,
		Pairs: s.Pairs, Truncated: s.Truncated, Batches: s.Batches, Tokens: s.Tokens, ComputedTokens: s.ComputedTokens,
		Latency: spreadOf(&s.Latency), Inference: spreadOf(&s.Inference), Tokenization: spreadOf(&s.Tokenization),
		QueueWait: spreadOf(&s.QueueWait), Other: spreadOf(&s.Other),
		Memory: memories{m.Active, m.Cache, m.Peak, m.Limit},
	}
}
