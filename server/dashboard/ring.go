package dashboard

import (
	"bytes"
	"slices"

	"github.com/mlxrank/mlxrank/bench/stats"
	"github.com/mlxrank/mlxrank/engine"
)

// A ring holds the last ten minutes, oldest first.
type ring struct {
	entries []entry
	values  [timings]distribution // of all entries
}

func (r *ring) add(e entry) {
	if len(r.entries) == history {
		for timing := range timings {
			r.values[timing].add(r.entries[0].values[timing], -1)
		}
		r.entries[0] = entry{} // the array behind still has it
		r.entries = r.entries[1:]
	}
	r.entries = append(r.entries, e)
	for timing := range timings {
		r.values[timing].add(e.values[timing], 1)
	}
}

// encoded is the rows as JSON.
func (r *ring) encoded() []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, e := range r.entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(e.encoded)
	}
	b.WriteByte(']')
	return b.Bytes()
}

func (r *ring) rows() []Row {
	rows := make([]Row, len(r.entries))
	for i, e := range r.entries {
		rows[i] = e.row
	}
	return rows
}

// A Distribution is the mean and percentiles of a figure over the window; of the
// throughput, over its seconds in which the engine was active.
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

// A Lane is one of the threads that compute shards of batches, over the window.
type Lane struct {
	ID              int      `json:"id"`
	BusyPct         *float64 `json:"busy_pct"`
	ShardMS         *float64 `json:"shard_ms"` // mean
	PairsS          *float64 `json:"pairs_s"`
	PaddingWastePct *float64 `json:"padding_waste_pct"`
	Shards          int64    `json:"shards"` // since the start, as all below
	Pairs           int64    `json:"pairs"`
	Tokens          int64    `json:"tokens"`
}

// A Summary is of the window: the rows there are.
type Summary struct {
	State   string  `json:"state"` // idle, running or unhealthy
	Error   string  `json:"error"` // why it is unhealthy
	UptimeS float64 `json:"uptime_s"`
	WindowS float64 `json:"window_s"`

	Requests  int64 `json:"requests"` // since the start, as all of these
	Pairs     int64 `json:"pairs"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	Refused   int64 `json:"refused"`
	Truncated int64 `json:"truncated"`
	Batches   int64 `json:"batches"`

	Live         int `json:"live_requests"` // at present, as all of these
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

	Stages Stages `json:"stages"`
	Lanes  []Lane `json:"lanes"`
}

// summary is of a ring that has entries.
func (r *ring) summary() Summary {
	first, last := &r.entries[0], &r.entries[len(r.entries)-1]
	before, after := &first.before, &last.after
	s := Summary{
		State:   last.state(),
		UptimeS: rounded(after.Elapsed.Seconds()), WindowS: rounded((after.Elapsed - before.Elapsed).Seconds()),
		Requests: after.Requests, Pairs: after.Pairs, Failed: after.Failed, Cancelled: after.Cancelled,
		Refused: refused(after), Truncated: after.Truncated, Batches: after.Batches,
		Live: after.Live, WaitingPairs: after.Waiting,
		Latency: r.timing(latency), QueueWait: r.timing(queueWait), Tokenization: r.timing(tokenization), Inference: r.timing(inference),
		Throughput: r.throughput(),
		MeanTokens: ratio(float64(after.Tokens-before.Tokens), float64(after.Pairs-before.Pairs)),
		Stages:     stages(before, after),
		Lanes:      lanes(before, after),
	}
	if after.Unhealthy != nil {
		s.Error = after.Unhealthy.Error()
	}
	computed := float64(after.ComputedTokens - before.ComputedTokens)
	grid, tokens := float64(after.GridTokens-before.GridTokens), float64(after.Tokens-before.Tokens)
	s.PaddingWastePct = ratio(100*(computed-tokens), computed)
	s.PaddingGridPct, s.PaddingBatchingPct = ratio(100*(grid-tokens), computed), ratio(100*(computed-grid), computed)
	for _, e := range r.entries {
		if n := e.row.MaxTokens; n != nil && (s.MaxTokens == nil || *n > *s.MaxTokens) {
			s.MaxTokens = n
		}
	}
	return s
}

func (e *entry) state() string {
	switch {
	case e.after.Unhealthy != nil:
		return "unhealthy"
	case e.active():
		return "running"
	}
	return "idle"
}

func (r *ring) timing(timing int) Distribution {
	d := &r.values[timing]
	return Distribution{Mean: r.mean(timing), P50: d.percentile(50), P95: d.percentile(95)}
}

func (r *ring) mean(timing int) *float64 {
	a, b := histogram(&r.entries[len(r.entries)-1].after, timing), histogram(&r.entries[0].before, timing)
	return ratio(a.Sum-b.Sum, float64(a.Count-b.Count))
}

func (r *ring) throughput() Distribution {
	var rates []float64
	for i := range r.entries {
		if rate := r.entries[i].row.ThroughputPairsS; rate != nil && r.entries[i].active() {
			rates = append(rates, *rate)
		}
	}
	if len(rates) == 0 {
		return Distribution{}
	}
	s := stats.Summarize(rates)
	return Distribution{Mean: figure(s.Mean), P50: figure(s.P50), P95: figure(s.P95)}
}

// stages are not rounded, so that they add up.
func stages(before, after *engine.Stats) Stages {
	share := func(timing int) *float64 {
		all := after.Latency.Sum - before.Latency.Sum
		if all <= 0 {
			return nil
		}
		pct := 100 * (histogram(after, timing).Sum - histogram(before, timing).Sum) / all
		return &pct
	}
	return Stages{QueueWait: share(queueWait), Tokenization: share(tokenization), Inference: share(inference), Other: share(other)}
}

func lanes(before, after *engine.Stats) []Lane {
	out := make([]Lane, len(after.Lanes))
	wall := (after.Elapsed - before.Elapsed).Seconds()
	for i, now := range after.Lanes {
		out[i] = Lane{ID: i, Shards: now.Shards, Pairs: now.Pairs, Tokens: now.Tokens}
		var then engine.Lane
		if i < len(before.Lanes) {
			then = before.Lanes[i]
		}
		busy := (now.Busy - then.Busy).Seconds()
		out[i].BusyPct = ratio(100*busy, wall)
		out[i].ShardMS = ratio(1000*busy, float64(now.Shards-then.Shards))
		out[i].PairsS = ratio(float64(now.Pairs-then.Pairs), wall)
		computed := now.ComputedTokens - then.ComputedTokens
		out[i].PaddingWastePct = ratio(100*float64(computed-now.Tokens+then.Tokens), float64(computed))
	}
	return slices.Clip(out)
}
