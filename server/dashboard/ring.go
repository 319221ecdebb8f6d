package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// An entry is a second. Its snapshots hold sums alone, so that ten minutes of
// entries take little memory.
type entry struct {
	telemetry.Interval
	encoded []byte // the row as JSON

	deadlinesBefore, deadlines deadlines // since the start, at both ends of the second

	values [telemetry.Times][]telemetry.Bucket // of the requests that ended
}

func newEntry(i telemetry.Interval) (e entry, err error) {
	for t, h := range i.After.Times() {
		e.values[t] = h.Since(i.Before.Times()[t])
	}
	e.Interval = i
	e.Round()
	e.Before, e.After = i.Before.Sums(), i.After.Sums()
	e.encoded, err = json.Marshal(e.Row)
	return e, err
}

// A ring holds the last ten minutes, oldest first.
type ring struct {
	entries []entry
	values  [telemetry.Times]telemetry.Window // of all entries
}

func (r *ring) add(e entry) {
	if len(r.entries) == history {
		for t := range r.values {
			r.values[t].Remove(r.entries[0].values[t])
		}
		r.entries[0] = entry{} // free it: the array behind the slice still refers to it
		r.entries = r.entries[1:]
	}
	r.entries = append(r.entries, e)
	for t := range r.values {
		r.values[t].Add(e.values[t])
	}
}

// encoded returns the rows as JSON.
func (r *ring) encoded() []byte {
	rows := make([][]byte, len(r.entries))
	for i, e := range r.entries {
		rows[i] = e.encoded
	}
	return fmt.Appendf(nil, "[%s]", bytes.Join(rows, []byte(",")))
}

// samples returns the rows on a clock that begins with the first.
func (r *ring) samples() []telemetry.Sample {
	samples := make([]telemetry.Sample, len(r.entries))
	at := 0.0
	for i, e := range r.entries {
		samples[i] = telemetry.Sample{FromMS: at, ToMS: at + e.IntervalMS, Figures: e.Figures}
		at += e.IntervalMS
	}
	return samples
}

// A Distribution holds the mean and percentiles of a figure over the window. For
// the throughput it covers the seconds in which the engine was active.
type Distribution struct {
	Mean *float64 `json:"mean"`
	P50  *float64 `json:"p50"`
	P95  *float64 `json:"p95"`
}

// Stages are the shares of the latency of the window's requests, in percent.
// They add up to 100.
type Stages struct {
	QueueWait    *float64 `json:"queue_wait_pct"`
	Tokenization *float64 `json:"tokenization_pct"`
	Inference    *float64 `json:"inference_pct"`
	Other        *float64 `json:"other_pct"`
}

// A Worker is a CPU thread that computes microbatches. Rates cover the window,
// counts the time since the start.
type Worker struct {
	ID              int      `json:"id"`
	BusyPct         *float64 `json:"busy_pct"`
	MicrobatchMS    *float64 `json:"microbatch_ms"` // mean
	PairsS          *float64 `json:"pairs_s"`
	PaddingWastePct *float64 `json:"padding_waste_pct"`
	Microbatches    int64    `json:"microbatches"`
	Pairs           int64    `json:"pairs"`
	Tokens          int64    `json:"tokens"`
}

// A Summary describes the window: the rows that the dashboard keeps.
type Summary struct {
	State   string  `json:"state"` // idle, running or unhealthy
	Error   string  `json:"error"` // why it is unhealthy
	UptimeS float64 `json:"uptime_s"`
	WindowS float64 `json:"window_s"`

	// Counts since the start.
	Requests  int64 `json:"requests"`
	Pairs     int64 `json:"pairs"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Refused   int64 `json:"refused"`
	Truncated int64 `json:"truncated"`
	Batches   int64 `json:"batches"`

	// At present.
	Live         int `json:"live_requests"`
	WaitingPairs int `json:"waiting_pairs"`

	Latency      Distribution `json:"latency_ms"`
	QueueWait    Distribution `json:"queue_wait_ms"`
	Tokenization Distribution `json:"tokenization_ms"`
	Inference    Distribution `json:"inference_ms"`
	Throughput   Distribution `json:"throughput_pairs_s"`

	PaddingWastePct    *float64 `json:"padding_waste_pct"`
	PaddingGridPct     *float64 `json:"padding_grid_pct"`
	PaddingBatchingPct *float64 `json:"padding_batching_pct"`
	MeanTokens         *float64 `json:"mean_tokens"`
	MaxTokens          *int     `json:"max_tokens"`

	Cache      *Cache     `json:"cache"` // nil without one
	Deadlines  Deadlines  `json:"deadlines"`
	Priorities Priorities `json:"priorities"`

	Stages  Stages   `json:"stages"`
	Workers []Worker `json:"workers"`
}

// summary describes a ring that has entries.
func (r *ring) summary() Summary {
	last := &r.entries[len(r.entries)-1]
	before, after := &r.entries[0].Before, &last.After
	row := telemetry.Between(before, after)
	row.Round()
	timing := func(t int, mean *float64) Distribution {
		return Distribution{Mean: mean, P50: telemetry.Rounded(r.values[t].Percentile(50)), P95: telemetry.Rounded(r.values[t].Percentile(95))}
	}
	s := Summary{
		State:   state(last),
		UptimeS: telemetry.Round(after.Elapsed.Seconds()), WindowS: telemetry.Round((after.Elapsed - before.Elapsed).Seconds()),
		Requests: after.Requests, Pairs: after.Pairs, Failed: after.Failed, Cancelled: after.Cancelled,
		Refused: after.Refused(), Truncated: after.Truncated, Batches: after.Batches,
		Live: after.Live, WaitingPairs: after.Waiting,
		Latency: timing(telemetry.Latency, row.LatencyMS), QueueWait: timing(telemetry.QueueWait, row.QueueWaitMS),
		Tokenization: timing(telemetry.Tokenization, row.TokenizationMS), Inference: timing(telemetry.Inference, row.InferenceMS),
		Throughput:      r.throughput(),
		PaddingWastePct: row.PaddingWastePct, MeanTokens: row.MeanTokens,
		Cache: cache(before, after), Deadlines: r.deadlines(), Priorities: priorities(before, after),
		Stages: stages(before, after), Workers: workers(before, after),
	}
	if after.Unhealthy != nil {
		s.Error = after.Unhealthy.Error()
	}
	computed := float64(after.ComputedTokens - before.ComputedTokens)
	grid, tokens := float64(after.GridTokens-before.GridTokens), float64(after.Tokens-before.Tokens)
	s.PaddingGridPct, s.PaddingBatchingPct = telemetry.Rounded(telemetry.Ratio(100*(grid-tokens), computed)), telemetry.Rounded(telemetry.Ratio(100*(computed-grid), computed))
	for _, e := range r.entries {
		if n := e.MaxTokens; n != nil && (s.MaxTokens == nil || *n > *s.MaxTokens) {
			s.MaxTokens = n
		}
	}
	return s
}

func state(e *entry) string {
	switch {
	case e.After.Unhealthy != nil:
		return "unhealthy"
	case e.Active():
		return "running"
	}
	return "idle"
}

func (r *ring) throughput() Distribution {
	var rates []float64
	for i := range r.entries {
		if rate := r.entries[i].ThroughputPairsS; rate != nil && r.entries[i].Active() {
			rates = append(rates, *rate)
		}
	}
	if len(rates) == 0 {
		return Distribution{}
	}
	s := telemetry.Summarize(rates)
	return Distribution{Mean: telemetry.Rounded(&s.Mean), P50: telemetry.Rounded(&s.P50), P95: telemetry.Rounded(&s.P95)}
}

// stages does not round, so that the shares add up.
func stages(before, after *telemetry.Snapshot) Stages {
	share := func(t int) *float64 {
		return telemetry.Ratio(100*(after.Times()[t].Sum-before.Times()[t].Sum), after.Latency.Sum-before.Latency.Sum)
	}
	return Stages{
		QueueWait: share(telemetry.QueueWait), Tokenization: share(telemetry.Tokenization),
		Inference: share(telemetry.Inference), Other: share(telemetry.Other),
	}
}

func workers(before, after *telemetry.Snapshot) []Worker {
	out := make([]Worker, len(after.Workers))
	for i, w := range telemetry.WorkersBetween(before, after) {
		since := after.Workers[i]
		out[i] = Worker{
			ID: i, BusyPct: telemetry.Rounded(w.BusyPct), MicrobatchMS: telemetry.Rounded(w.MicrobatchMS), PairsS: telemetry.Rounded(w.PairsS),
			PaddingWastePct: telemetry.Rounded(w.PaddingWastePct),
			Microbatches:    since.Microbatches, Pairs: since.Pairs, Tokens: since.Tokens,
		}
	}
	return out
}
