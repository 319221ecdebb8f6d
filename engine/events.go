package engine

import (
	"context"
	_ "embed"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// EventsSchema is the JSON schema of the events that an engine logs: one per
// request (level debug), per batch (trace) and per second of activity (info).
//
//go:embed events.schema.json
var EventsSchema []byte

func (p *pipeline) logBatch(b *batch, stats mlx.Stats, at time.Time, err error) {
	event := p.log.Trace()
	if !event.Enabled() || b.probe {
		return
	}
	event.
		Int("pairs", len(b.Items)).
		Int("requests", len(b.requests)).
		Int("microbatches", len(b.Microbatches)).
		Int("tokens", stats.Tokens).
		Int("computed_tokens", stats.ComputedTokens).
		Float64("padding_waste_pct", waste(stats.Tokens, stats.ComputedTokens)).
		Float64("inference_ms", telemetry.Milliseconds(at.Sub(b.Submitted))).
		Float64("predicted_ms", telemetry.Milliseconds(b.Predicted)).
		Err(err).
		Msg("batch")
}

// logRequest runs after the request has ended.
func (p *pipeline) logRequest(r *request, t Timings, err error) {
	event := p.log.Debug()
	if p.noRequestEvents || !event.Enabled() {
		return
	}
	p.mu.Lock() // a batch of a request that has ended early may still be executing
	tokens, computed, truncated, batches := r.tokens, r.computed, r.truncated, r.batches
	p.mu.Unlock()
	if err == nil && r.left > 0 {
		event.Int("unscored", r.left)
	}
	event.
		Int("pairs", r.givenPairs()).
		EmbedObject(&Result{Distinct: len(r.pairs), Truncated: truncated, Batches: batches, Tokens: tokens, ComputedTokens: computed, Timings: t}).
		Err(err).
		Msg("request")
}

// MarshalZerologObject adds the keys that [EventsSchema] has for a request: its
// counts and times, without its scores.
func (r *Result) MarshalZerologObject(event *zerolog.Event) {
	if n := len(r.Unscored); n > 0 {
		event.Int("unscored", n)
	}
	event.
		Int("distinct_pairs", r.Distinct).
		Int("truncated", r.Truncated).
		Int("batches", r.Batches).
		Int("tokens", r.Tokens).
		Int("computed_tokens", r.ComputedTokens).
		Float64("padding_waste_pct", waste(r.Tokens, r.ComputedTokens)).
		Float64("latency_ms", telemetry.Milliseconds(r.Timings.Latency)).
		Float64("inference_ms", telemetry.Milliseconds(r.Timings.Inference)).
		Float64("tokenization_ms", telemetry.Milliseconds(r.Timings.Tokenization)).
		Float64("queue_wait_ms", telemetry.Milliseconds(r.Timings.QueueWait)).
		Float64("other_ms", telemetry.Milliseconds(r.Timings.Other))
}

func waste(tokens, computed int) float64 {
	if computed == 0 {
		return 0
	}
	return 100 * float64(computed-tokens) / float64(computed)
}

// watch starts to log active seconds if the log wants them. Its goroutine ends
// when the engine is idle, so that an idle engine wakes no thread.
func (p *pipeline) watch() {
	if p.watching || p.machine == nil || p.log.GetLevel() > zerolog.InfoLevel {
		return
	}
	p.watching = true
	p.ended.Go(p.logSeconds)
}

func (p *pipeline) logSeconds() {
	ctx, ticker := context.Background(), time.NewTicker(time.Second)
	defer ticker.Stop()
	sampler, err := telemetry.NewSampler(ctx, p.snapshot, p.machine)
	if err != nil {
		p.log.Debug().Err(err).Msg("figures of the machine")
	}
	for {
		select {
		case <-ticker.C:
		case <-p.stopped:
			return
		}
		second, err := sampler.Next(ctx)
		if !second.Active() && p.rest(&second.After) {
			return
		}
		p.logSecond(&second.Row, err)
	}
}

// rest ends the watch unless something has happened since the snapshot.
func (p *pipeline) rest(since *telemetry.Snapshot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watching = len(p.live) > 0 || p.stats.Ended() > since.Ended()
	return !p.watching
}

func (p *pipeline) logSecond(r *telemetry.Row, err error) {
	event := p.log.Info().AnErr("sample_error", err).
		Int64("requests", r.Requests).
		Int64("pairs", r.Pairs).
		Int64("failed", r.Failed).
		Int64("cancelled", r.Cancelled).
		Int64("refused", r.Refused).
		Int("waiting_pairs", r.WaitingPairs)
	if r.MaxTokens != nil {
		event.Int("max_tokens", *r.MaxTokens)
	}
	r.Each(func(name string, v float64) { event.Float64(name, v) })
	event.Msg("second")
}
