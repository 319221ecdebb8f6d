package output

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A Summary describes a run and its cost. Logs and reports of the project use the
// same JSON names.
type Summary struct {
	telemetry.Info

	Format string `json:"format,omitempty"`          // of the input
	Basis  string `json:"format_found_by,omitempty"` // reason for the format
	Fields string `json:"document_fields,omitempty"` // sources of the documents

	Pairs           int     `json:"pairs"`
	Empty           int     `json:"empty,omitempty"`       // documents with nothing to score
	Blank           int     `json:"blank_lines,omitempty"` // skipped lines of the input
	Skipped         int     `json:"skipped,omitempty"`     // lines with errors
	Resumed         int     `json:"resumed,omitempty"`     // lines that an earlier run has finished
	Distinct        int     `json:"distinct_pairs"`        // scored: identical pairs of a request once
	CacheHits       int     `json:"cache_hits,omitempty"`  // of these, not executed
	CacheMisses     int     `json:"cache_misses,omitempty"`
	Truncated       int     `json:"truncated"`
	Batches         int     `json:"batches"`
	Tokens          int     `json:"tokens"`
	ComputedTokens  int     `json:"computed_tokens"`
	PaddingWastePct float64 `json:"padding_waste_pct"`

	// The parts of startup_ms overlap.
	LibraryMS   float64 `json:"startup_library_ms"`
	WeightsMS   float64 `json:"startup_weights_ms"`
	TokenizerMS float64 `json:"startup_tokenizer_ms"`
	SessionMS   float64 `json:"startup_session_ms"`

	LatencyMS       float64 `json:"latency_ms"`
	InferenceMS     float64 `json:"inference_ms"`
	TokenizationMS  float64 `json:"tokenization_ms"`
	QueueWaitMS     float64 `json:"queue_wait_ms"`
	OtherMS         float64 `json:"other_ms"`
	ThroughputPairs float64 `json:"throughput_pairs_s"`
}

// NewSummary returns a summary of the engine without requests.
func NewSummary(info engine.Info) *Summary {
	ms := telemetry.Milliseconds
	return &Summary{
		Info:      info.Summary(),
		LibraryMS: ms(info.Startup.Library), WeightsMS: ms(info.Startup.Weights),
		TokenizerMS: ms(info.Startup.Tokenizer), SessionMS: ms(info.Startup.Session),
	}
}

// Add adds a request of n pairs.
func (f *Summary) Add(n int, r *engine.Result) {
	f.Pairs += n
	f.Distinct += r.Distinct
	f.CacheHits += r.CacheHits
	f.CacheMisses += r.CacheMisses
	f.Truncated += r.Truncated
	f.Batches += r.Batches
	f.Tokens += r.Tokens
	f.ComputedTokens += r.ComputedTokens
	f.LatencyMS += telemetry.Milliseconds(r.Timings.Latency)
	f.InferenceMS += telemetry.Milliseconds(r.Timings.Inference)
	f.TokenizationMS += telemetry.Milliseconds(r.Timings.Tokenization)
	f.QueueWaitMS += telemetry.Milliseconds(r.Timings.QueueWait)
	f.OtherMS += telemetry.Milliseconds(r.Timings.Other)
	f.PaddingWastePct = percent(float64(f.ComputedTokens-f.Tokens), float64(f.ComputedTokens))
	if f.LatencyMS > 0 {
		f.ThroughputPairs = float64(f.Distinct) / f.LatencyMS * 1000
	}
}

// Text formats the summary as lines of text.
func (f *Summary) Text() string {
	device := f.Device
	if f.DeviceName != "" {
		device += " (" + f.DeviceName + ")"
	}
	model := f.Model
	if f.Adapter != "" && f.Adapter != f.Model {
		model += " + " + f.Adapter
	}
	if f.Label != "" {
		model += ", label " + f.Label
	}
	activation := f.Activation
	if c := f.Calibration; c != nil {
		activation += fmt.Sprintf(", calibrated with temperature %.4g and shift %.4g", c.Temperature, c.Shift)
	}
	stage := func(name string, v float64) string {
		return fmt.Sprintf("%-13s%10.1f ms %3.0f %%", name, v, percent(v, f.LatencyMS))
	}
	rows := [][2]string{
		{"model", fmt.Sprintf("%s, max length %d tokens, activation %s", model, f.MaxLength, activation)},
		{"device", fmt.Sprintf("%s, %s by %s", device, f.DType, Graph(f.Info))},
		{"pairs", fmt.Sprintf("%d (%d truncated) in %s, %.1f pairs/s", f.Pairs, f.Truncated, Count(f.Batches, "batch", "batches"), f.ThroughputPairs)},
	}
	if f.Format != "" {
		rows = append(rows, [2]string{"input", strings.TrimSpace(f.Format+" "+f.Basis) + ", document from " + cmp.Or(f.Fields, "nothing")})
	}
	if f.Empty > 0 {
		rows = append(rows, [2]string{"empty", Count(f.Empty, "document has", "documents have") + " no text, scored as empty"})
	}
	if f.Blank > 0 {
		rows = append(rows, [2]string{"blank", Count(f.Blank, "line", "lines") + " skipped"})
	}
	if n := f.CacheHits + f.CacheMisses; n > 0 {
		rows = append(rows, [2]string{"cache", fmt.Sprintf("%d of %s known, %d computed", f.CacheHits, Count(n, "pair", "pairs"), f.CacheMisses)})
	}
	if f.Distinct > f.Pairs {
		rows = append(rows, [2]string{"passages", fmt.Sprintf("%d scored; a long document has several", f.Distinct)})
	}
	if f.Skipped > 0 {
		rows = append(rows, [2]string{"skipped", Count(f.Skipped, "line", "lines") + " with errors"})
	}
	if f.Resumed > 0 {
		rows = append(rows, [2]string{"resumed", "after " + Count(f.Resumed, "line", "lines") + " of an earlier run"})
	}
	rows = append(rows, [][2]string{
		{"tokens", fmt.Sprintf("%d real, %d computed (%.1f %% padding)", f.Tokens, f.ComputedTokens, f.PaddingWastePct)},
		{"start-up", fmt.Sprintf("%.1f ms: library %.1f, weights %.1f, tokenizer %.1f, session %.1f, partly in parallel",
			f.StartupMS, f.LibraryMS, f.WeightsMS, f.TokenizerMS, f.SessionMS)},
		{"latency", stage("inference", f.InferenceMS)},
		{"", stage("tokenization", f.TokenizationMS)},
		{"", stage("queue wait", f.QueueWaitMS)},
		{"", stage("other", f.OtherMS)},
		{"", stage("all", f.LatencyMS)},
	}...)
	var b strings.Builder
	for _, row := range rows {
		fmt.Fprintf(&b, "%-10s%s\n", row[0], row[1])
	}
	return b.String()
}
