package dashboard

import "github.com/mlxrank/mlxrank/engine"

// The stages of a request and their sum, as an engine has histograms of them.
const (
	latency = iota
	queueWait
	tokenization
	inference
	other
	timings // how many there are
)

func histogram(s *engine.Stats, timing int) *engine.Histogram {
	return [timings]*engine.Histogram{&s.Latency, &s.QueueWait, &s.Tokenization, &s.Inference, &s.Other}[timing]
}

// An entry is a row with what the summary of a window needs of it.
type entry struct {
	row     Row
	encoded []byte // the row as JSON
	// The engine's counters before and after. Only the sums in them are kept, so
	// that ten minutes of entries do not take the histograms' memory.
	before, after engine.Stats
	values        [timings][]engine.Bucket // of the requests that ended
}

// fill computes the row from the counters, and thins these out.
func (e *entry) fill() {
	r, before, after := &e.row, &e.before, &e.after
	wall := (after.Elapsed - before.Elapsed).Seconds()
	if wall > 0 {
		r.ThroughputPairsS = figure(float64(r.Pairs) / wall)
		r.DeviceBusyPct = figure(100 * (after.Busy - before.Busy).Seconds() / wall)
	}
	for timing, to := range [timings]**float64{&r.LatencyMS, &r.QueueWaitMS, &r.TokenizationMS, &r.InferenceMS, &r.OtherMS} {
		a, b := histogram(after, timing), histogram(before, timing)
		*to = ratio(a.Sum-b.Sum, float64(a.Count-b.Count))
		e.values[timing] = a.Since(b)
	}
	computed, tokens := after.ComputedTokens-before.ComputedTokens, after.Tokens-before.Tokens
	r.PaddingWastePct = ratio(100*float64(computed-tokens), float64(computed))
	r.MeanTokens = ratio(float64(tokens), float64(r.Pairs))
	r.MaxTokens = longest(before.PairsByTokens, after.PairsByTokens)
	thinOut(before)
	thinOut(after)
}

// longest is the most tokens that a pair has had which is in after only.
func longest(before, after []int64) *int {
	for n := len(after) - 1; n >= 0; n-- {
		if n >= len(before) && after[n] > 0 || n < len(before) && after[n] > before[n] {
			return &n
		}
	}
	return nil
}

// thinOut keeps the sums.
func thinOut(s *engine.Stats) {
	for timing := range timings {
		h := histogram(s, timing)
		*h = engine.Histogram{Count: h.Count, Sum: h.Sum}
	}
	s.BatchTime, s.BatchPairs, s.PredictionError = engine.Histogram{}, engine.Histogram{}, engine.Histogram{}
	s.PairsByTokens = nil
}

// active says whether the engine has done anything in the second.
func (e *entry) active() bool {
	ended := e.row.Requests + e.row.Failed + e.row.Cancelled + e.row.Refused
	return ended > 0 || e.after.Live > 0 || e.after.Busy > e.before.Busy
}
