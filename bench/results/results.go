// Package results defines the files of a benchmark: versioned JSON with the times
// of every request. Report, plots and comparisons are made from it.
package results

import (
	"cmp"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// Schema is the version of the file's layout. Read rejects other versions.
const Schema = 1

// A Result holds the results of an experiment. Nil pointers were not measured.
type Result struct {
	Schema      int         `json:"schema_version"`
	Name        string      `json:"name"`
	Description string      `json:"description"`
	Started     time.Time   `json:"started"`
	Finished    *time.Time  `json:"finished"` // null if interrupted
	Swept       []string    `json:"swept"`    // settings with several values
	Environment Environment `json:"environment"`
	Points      []Point     `json:"points"`
}

// Environment describes the machine and the program.
type Environment struct {
	Program string `json:"program"` // its version
	Go      string `json:"go"`
	OS      string `json:"os"`
	Chip    string `json:"chip"`
	Cores   int    `json:"cores"`
	Memory  int64  `json:"memory_bytes"`
	Power   string `json:"power"` // mains or battery, "" if unknown

	Server *Server `json:"server,omitempty"` // that was measured, null for an engine
}

// A Point is one combination of settings.
type Point struct {
	Settings experiment.Settings `json:"settings"`
	Error    string              `json:"error,omitempty"` // why the point failed
	Engine   *Engine             `json:"engine"`          // null if it could not be opened
	Runs     []Run               `json:"runs"`
}

// Done reports whether all runs of the point are measured.
func (p *Point) Done() bool { return p.Error == "" && len(p.Runs) >= p.Settings.Runs }

// Engine describes the engine that ran.
type Engine struct {
	telemetry.Info
	MLXC        string `json:"mlx_c"`
	Shim        int    `json:"shim_abi"`
	BLAS        string `json:"blas"`
	ModelSHA256 string `json:"model_sha256"` // of the files of weights
	Packed      bool   `json:"packed"`       // tokens have no padding, so lengths do not matter for batches

	Workload       string `json:"workload"`
	WorkloadPairs  int    `json:"workload_pairs"`
	WorkloadSHA256 string `json:"workload_sha256"`
	TokenLengths   []int  `json:"token_lengths"` // of its pairs, ascending
	Truncated      int    `json:"truncated_pairs"`
}

// A Run is one measurement of a point. Times are in milliseconds since its
// start.
type Run struct {
	Started       time.Time          `json:"started"`
	WallMS        float64            `json:"wall_ms"` // from before the first request to after the last
	DeviceBusyPct *float64           `json:"device_busy_pct"`
	LoadBefore    *float64           `json:"load_before"` // load average of one minute when the run began
	LoadAfter     *float64           `json:"load_after"`  // and when it ended
	Refused       int                `json:"refused"`     // requests refused for lack of room
	Refusal       string             `json:"refusal,omitempty"`
	Failed        int                `json:"failed,omitempty"`  // requests that a server answered without scores
	Failure       string             `json:"failure,omitempty"` // reason of the first
	Requests      []Request          `json:"requests"`
	Samples       []telemetry.Sample `json:"samples"`
	Workers       []Worker           `json:"workers"`
	Profile       *Profile           `json:"profile,omitempty"` // if asked for
}

// A Request holds the figures of one request. Latency counts from the time when the
// request was meant to start: in an open loop, the time of the schedule.
type Request struct {
	StartMS        float64 `json:"start_ms"` // when it was meant to start
	LateMS         float64 `json:"late_ms"`  // time between meant start and sending
	LatencyMS      float64 `json:"latency_ms"`
	InferenceMS    float64 `json:"inference_ms"`
	TokenizationMS float64 `json:"tokenization_ms"`
	QueueWaitMS    float64 `json:"queue_wait_ms"`
	Pairs          int     `json:"pairs"`
	Tokens         int     `json:"tokens"`
	ComputedTokens int     `json:"computed_tokens"`
	Truncated      int     `json:"truncated"`

	Server *ServerSide `json:"server,omitempty"` // null for an engine
}

// OtherMS returns the part of the latency outside the known stages.
func (r Request) OtherMS() float64 {
	return r.LatencyMS - r.InferenceMS - r.TokenizationMS - r.QueueWaitMS
}

// EndMS returns the time of the answer.
func (r Request) EndMS() float64 { return r.StartMS + r.LatencyMS }

// A Worker is one of the CPU threads that compute microbatches.
type Worker struct {
	ID           int     `json:"id"`
	Microbatches int64   `json:"microbatches"`
	Pairs        int64   `json:"pairs"`
	Tokens       int64   `json:"tokens"`
	BusyMS       float64 `json:"busy_ms"`
	MeanMS       float64 `json:"mean_ms"` // of a microbatch
	BusyPct      float64 `json:"busy_pct"`
}

// Pairs counts the pairs that the run scored.
func (r *Run) Pairs() int {
	n := 0
	for _, request := range r.Requests {
		n += request.Pairs
	}
	return n
}

// Throughput returns pairs per second of wall time.
func (r *Run) Throughput() float64 { return float64(r.Pairs()) / (r.WallMS / 1000) }

// Latencies lists the latencies of the requests, in the order in which they ended.
func (r *Run) Latencies() []float64 {
	out := make([]float64, len(r.Requests))
	for i, request := range r.Requests {
		out[i] = request.LatencyMS
	}
	return out
}

// Rates lists the throughputs of the runs.
func (p *Point) Rates() []float64 {
	rates := make([]float64, len(p.Runs))
	for i := range p.Runs {
		rates[i] = p.Runs[i].Throughput()
	}
	return rates
}

// Shown returns the runs that a report shows: the typical one, or both of two, of
// which the report shows the mean. It is empty for a point without runs.
func (p *Point) Shown() []*Run {
	if len(p.Runs) == 2 {
		return []*Run{&p.Runs[0], &p.Runs[1]}
	}
	if run := p.Typical(); run != nil {
		return []*Run{run}
	}
	return nil
}

// Typical returns the run with the median throughput, of two runs the slower one.
// It returns nil for a point without runs.
func (p *Point) Typical() *Run {
	if len(p.Runs) == 0 {
		return nil
	}
	runs := make([]*Run, len(p.Runs))
	for i := range runs {
		runs[i] = &p.Runs[i]
	}
	slices.SortStableFunc(runs, func(a, b *Run) int { return cmp.Compare(a.Throughput(), b.Throughput()) })
	return runs[(len(runs)-1)/2]
}
