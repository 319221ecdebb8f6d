package engine

import (
	_ "embed"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine/system"
	"github.com/mlxrank/mlxrank/mlx"
)

// EventsSchema is the JSON schema of the events that an engine logs: one a
// request (level debug), one a batch (trace), one a second of activity (info).
//
//go:embed events.schema.json
var EventsSchema []byte

func (p *pipeline) logBatch(b *batch, stats mlx.Stats, at time.Time, err error) {
	event := p.log.Trace()
	if !event.Enabled() || b.probe {
		return
	}
	event.
		Int("pairs", len(b.items)).
		Int("requests", len(b.requests)).
		Int("shards", len(b.shards)).
		Int("tokens", stats.Tokens).
		Int("computed_tokens", stats.ComputedTokens).
		Float64("padding_waste_pct", waste(stats.Tokens, stats.ComputedTokens)).
		Float64("inference_ms", milliseconds(at.Sub(b.submitted))).
		Float64("predicted_ms", milliseconds(b.predicted)).
		Err(err).
		Msg("batch")
}

// logRequest runs after the request has ended.
func (p *pipeline) logRequest(r *request, t Timings, err error) {
	event := p.log.Debug()
	if p.noRequestEvents || !event.Enabled() {
		return
	}
	p.mu.Lock() // a batch of a request that was given up may still be executing
	tokens, computed, truncated, batches := r.tokens, r.computed, r.truncated, r.batches
	p.mu.Unlock()
	event.
		Int("pairs", r.givenPairs()).
		Int("distinct_pairs", len(r.pairs)).
		Int("truncated", truncated).
		Int("batches", batches).
		Int("tokens", tokens).
		Int("computed_tokens", computed).
		Float64("padding_waste_pct", waste(tokens, computed)).
		Float64("latency_ms", milliseconds(t.Latency)).
		Float64("inference_ms", milliseconds(t.Inference)).
		Float64("tokenization_ms", milliseconds(t.Tokenization)).
		Float64("queue_wait_ms", milliseconds(t.QueueWait)).
		Float64("other_ms", milliseconds(t.Other)).
		Err(err).
		Msg("request")
}

func waste(tokens, computed int) float64 {
	if computed == 0 {
		return 0
	}
	return 100 * float64(computed-tokens) / float64(computed)
}

// watch begins to log active seconds, if the log wants them. Its goroutine ends
// with the activity: an engine at rest wakes nobody up.
func (p *pipeline) watch() {
	if p.watching || p.figures == nil || p.log.GetLevel() > zerolog.InfoLevel {
		return
	}
	p.watching = true
	p.ended.Go(p.logSeconds)
}

func (p *pipeline) logSeconds() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	before := p.snapshot()
	p.figures() // CPU time counts from here
	for {
		select {
		case <-ticker.C:
		case <-p.stopped:
			return
		}
		after := p.snapshot()
		if !after.activeSince(&before) && p.rest(&after) {
			return
		}
		p.logSecond(&before, &after)
		before = after
	}
}

func (s *Stats) activeSince(before *Stats) bool {
	return s.Live > 0 || s.Busy > before.Busy || s.ended() > before.ended()
}

// ended counts the requests that were answered somehow.
func (s *Stats) ended() int64 {
	return s.Requests + s.Failed + s.Cancelled + s.Overloaded + s.TooLarge
}

// rest ends the watch unless something has happened since the snapshot.
func (p *pipeline) rest(since *Stats) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = len(p.live) > 0 || p.stats.ended() > since.ended()
	return !p.watching
}

// A figures value is what the engine's second has of the machine.
type figures struct {
	system.Sample
	memory mlx.Memory
	err    error
}

func (p *pipeline) logSecond(before, after *Stats) {
	f := p.figures()
	event := p.log.Info()
	if f.err != nil {
		event.AnErr("sample_error", f.err)
	}
	wall := (after.Elapsed - before.Elapsed).Seconds()
	event.
		Int64("requests", after.Requests-before.Requests).
		Int64("pairs", after.Pairs-before.Pairs).
		Int64("failed", after.Failed-before.Failed).
		Int64("cancelled", after.Cancelled-before.Cancelled).
		Int64("refused", after.Overloaded+after.TooLarge-before.Overloaded-before.TooLarge).
		Int("waiting_pairs", after.Waiting).
		Float64("throughput_pairs_s", float64(after.Pairs-before.Pairs)/wall).
		Float64("device_busy_pct", 100*(after.Busy-before.Busy).Seconds()/wall)
	for _, mean := range []struct {
		name          string
		before, after *Histogram
	}{
		{"latency_ms", &before.Latency, &after.Latency},
		{"inference_ms", &before.Inference, &after.Inference},
		{"tokenization_ms", &before.Tokenization, &after.Tokenization},
		{"queue_wait_ms", &before.QueueWait, &after.QueueWait},
		{"other_ms", &before.Other, &after.Other},
	} {
		if n := mean.after.Count - mean.before.Count; n > 0 {
			event.Float64(mean.name, (mean.after.Sum-mean.before.Sum)/float64(n))
		}
	}
	if computed := after.ComputedTokens - before.ComputedTokens; computed > 0 {
		event.Float64("padding_waste_pct", waste(int(after.Tokens-before.Tokens), int(computed)))
	}
	event.
		Float64("gpu_memory_mb", megabytes(f.memory.Active+f.memory.Cache)).
		Float64("gpu_memory_peak_mb", megabytes(f.memory.Peak))
	for _, figure := range []struct {
		name  string
		value *float64
	}{
		{"cpu_usage_pct", f.CPUUsagePct},
		{"process_memory_mb", f.FootprintMB},
		{"gpu_utilization_pct", f.GPUUtilizationPct},
	} {
		if figure.value != nil {
			event.Float64(figure.name, *figure.value)
		}
	}
	event.Msg("second")
}

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }
