package main

import (
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// info is the JSON of mlxr_info.
type info struct {
	telemetry.Info
	Version string `json:"version"`
	Dir     string `json:"dir"`
	Library string `json:"library"`
	MLXPath string `json:"mlx_path"`
}

func newInfo(i engine.Info) info {
	return info{Info: i.Summary(), Version: engine.Version, Dir: i.Dir, Library: i.Library.Path, MLXPath: i.Library.MLXPath}
}

// stats is the JSON of mlxr_stats.
type stats struct {
	ElapsedS       float64          `json:"elapsed_s"`
	Loaded         bool             `json:"loaded"`
	Unloads        int              `json:"unloads"`
	Requests       int64            `json:"requests"`
	Failed         int64            `json:"failed"`
	Cancelled      int64            `json:"cancelled"`
	Overloaded     int64            `json:"overloaded"`
	TooLarge       int64            `json:"too_large"`
	Pairs          int64            `json:"pairs"`
	Truncated      int64            `json:"truncated"`
	Batches        int64            `json:"batches"`
	Tokens         int64            `json:"tokens"`
	ComputedTokens int64            `json:"computed_tokens"`
	Latency        telemetry.Spread `json:"latency_ms"`
	Inference      telemetry.Spread `json:"inference_ms"`
	Tokenization   telemetry.Spread `json:"tokenization_ms"`
	QueueWait      telemetry.Spread `json:"queue_wait_ms"`
	Other          telemetry.Spread `json:"other_ms"`
	Memory         engine.Memory    `json:"memory"`
}

func newStats(s engine.Stats, m engine.Memory) stats {
	return stats{
		ElapsedS: s.Elapsed.Seconds(), Loaded: s.Loaded, Unloads: s.Unloads,
		Requests: s.Requests, Failed: s.Failed, Cancelled: s.Cancelled, Overloaded: s.Overloaded + s.Late + s.Dropped, TooLarge: s.TooLarge,
		Pairs: s.Pairs, Truncated: s.Truncated, Batches: s.Batches, Tokens: s.Tokens, ComputedTokens: s.ComputedTokens,
		Latency: s.Latency.Spread(), Inference: s.Inference.Spread(), Tokenization: s.Tokenization.Spread(),
		QueueWait: s.QueueWait.Spread(), Other: s.Other.Spread(), Memory: m,
	}
}
