package telemetry

import (
	"math"
	"reflect"
	"time"
)

// Figures describe an interval. Times are means over the requests that ended in
// it; nil was not measured.
type Figures struct {
	ThroughputPairsS *float64 `json:"throughput_pairs_s"`
	LatencyMS        *float64 `json:"latency_ms"`
	QueueWaitMS      *float64 `json:"queue_wait_ms"`
	TokenizationMS   *float64 `json:"tokenization_ms"`
	InferenceMS      *float64 `json:"inference_ms"`
	OtherMS          *float64 `json:"other_ms"`
	PaddingWastePct  *float64 `json:"padding_waste_pct"`
	DeviceBusyPct    *float64 `json:"device_busy_pct"`
	Machine
}

// A Sample is an interval of a clock that begins with the first sample.
type Sample struct {
	FromMS float64 `json:"from_ms"`
	ToMS   float64 `json:"to_ms"`
	Figures
}

// A Row is the difference of two snapshots of an engine, with the machine's
// figures at its end.
type Row struct {
	TimeMS     int64   `json:"time_ms"` // Unix time of its end
	IntervalMS float64 `json:"interval_ms"`

	Requests     int64 `json:"requests"`
	Pairs        int64 `json:"pairs"`
	Failed       int64 `json:"failed"`
	Cancelled    int64 `json:"cancelled"`
	Refused      int64 `json:"refused"`
	WaitingPairs int   `json:"waiting_pairs"`

	Figures
	MeanTokens *float64 `json:"mean_tokens"` // of a pair
	MaxTokens  *int     `json:"max_tokens"`  // of a pair
}

// Between computes the row from one snapshot to a later one of the same engine.
// The times of the row and the machine's figures are left to the caller.
func Between(before, after *Snapshot) Row {
	r := Row{
		Requests:     after.Requests - before.Requests,
		Pairs:        after.Pairs - before.Pairs,
		Failed:       after.Failed - before.Failed,
		Cancelled:    after.Cancelled - before.Cancelled,
		Refused:      after.Refused() - before.Refused(),
		WaitingPairs: after.Waiting,
		MaxTokens:    longest(before.PairsByTokens, after.PairsByTokens),
	}
	wall := (after.Elapsed - before.Elapsed).Seconds()
	r.ThroughputPairsS = Ratio(float64(r.Pairs), wall)
	r.DeviceBusyPct = Ratio(100*(after.Busy-before.Busy).Seconds(), wall)
	for i, mean := range [Times]**float64{&r.LatencyMS, &r.QueueWaitMS, &r.TokenizationMS, &r.InferenceMS, &r.OtherMS} {
		a, b := before.Times()[i], after.Times()[i]
		*mean = Ratio(b.Sum-a.Sum, float64(b.Count-a.Count))
	}
	computed, tokens := float64(after.ComputedTokens-before.ComputedTokens), float64(after.Tokens-before.Tokens)
	r.PaddingWastePct = Ratio(100*(computed-tokens), computed)
	r.MeanTokens = Ratio(tokens, float64(r.Pairs))
	return r
}

// Ratio returns a/b, nil if b is not positive.
func Ratio(a, b float64) *float64 {
	if b <= 0 {
		return nil
	}
	q := a / b
	return &q
}

// longest returns the most tokens of a pair that only after counts.
func longest(before, after []int64) *int {
	for n := len(after) - 1; n >= 0; n-- {
		if n >= len(before) && after[n] > 0 || n < len(before) && after[n] > before[n] {
			return &n
		}
	}
	return nil
}

// measured are the fields of a row that may be nil, with their JSON names.
var measured = func() (fields []reflect.StructField) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Row]()) {
		if f.Type == reflect.TypeFor[*float64]() {
			fields = append(fields, f)
		}
	}
	return fields
}()

// Each calls f with the JSON name and the value of every figure that was measured.
func (r *Row) Each(f func(name string, value float64)) {
	for _, field := range measured {
		if v := reflect.ValueOf(r).Elem().FieldByIndex(field.Index).Interface().(*float64); v != nil {
			f(field.Tag.Get("json"), *v)
		}
	}
}

// Round rounds all figures to three decimals.
func (r *Row) Round() {
	r.IntervalMS = Round(r.IntervalMS)
	for _, field := range measured {
		v := reflect.ValueOf(r).Elem().FieldByIndex(field.Index).Addr().Interface().(**float64)
		*v = Rounded(*v)
	}
}

// Round rounds to three decimals.
func Round(x float64) float64 { return math.Round(x*1000) / 1000 }

// Rounded rounds to three decimals and keeps nil.
func Rounded(x *float64) *float64 {
	if x == nil {
		return nil
	}
	y := Round(*x)
	return &y
}

// Milliseconds converts a duration to milliseconds.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// A WorkerRow is what a worker did between two snapshots.
type WorkerRow struct {
	Worker
	ID              int
	BusyPct         *float64
	MicrobatchMS    *float64 // mean
	PairsS          *float64
	PaddingWastePct *float64
}

// WorkersBetween computes the rows of all workers from one snapshot to a later
// one of the same engine.
func WorkersBetween(before, after *Snapshot) []WorkerRow {
	rows := make([]WorkerRow, len(after.Workers))
	wall := (after.Elapsed - before.Elapsed).Seconds()
	for i, w := range after.Workers {
		if i < len(before.Workers) {
			b := before.Workers[i]
			w = Worker{w.Microbatches - b.Microbatches, w.Pairs - b.Pairs, w.Tokens - b.Tokens, w.ComputedTokens - b.ComputedTokens, w.Busy - b.Busy}
		}
		rows[i] = WorkerRow{
			Worker: w, ID: i,
			BusyPct:         Ratio(100*w.Busy.Seconds(), wall),
			MicrobatchMS:    Ratio(Milliseconds(w.Busy), float64(w.Microbatches)),
			PairsS:          Ratio(float64(w.Pairs), wall),
			PaddingWastePct: Ratio(100*float64(w.ComputedTokens-w.Tokens), float64(w.ComputedTokens)),
		}
	}
	return rows
}
