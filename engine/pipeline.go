package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// settings are what a pipeline is made with.
type settings struct {
	batching schedule.Config
	texts    pairEncoder
	capacity int        // tokens of all requests at once
	side     Truncation // of requests that name none
	labels   int
	workers  int // tokenizer workers

	costs     CostModel  // changes under the lock
	kept      CostModel  // what the file has; changes under the lock
	costsFile string     // "" for none
	layout    mlx.Layout // of the session; changes under the lock

	choose     func(context.Context) (chosen, error) // nil where there is nothing to choose
	closeModel func() error                          // frees what choose needs; nil for nothing
	warm       mlx.Batch                             // to compute first; empty for none

	idle            time.Duration // after which the session is closed; 0 never
	trim            func() error  // returns the memory of a closed session to the system
	reopen          func() (backend, error)
	log             zerolog.Logger
	noRequestEvents bool                    // Config.OmitRequestEvents
	machine         telemetry.MachineReader // nil logs no seconds
}

// A pipeline takes requests through their stages. One lock guards the state; it
// is never held while a text is encoded or a batch executes.
//
//	admit -> tokenizeWorkers -> schedule.Scheduler -> dispatch and collect -> end
type pipeline struct {
	settings

	mu            sync.Mutex
	drained       sync.Cond // for close
	schedule      *schedule.Scheduler
	events        events // the schedule's
	tokenizers    tokenizeWorkers
	device        device
	choosing      *choosing    // a choice that is not made; nil for none
	watchdog      *time.Timer  // when the device hangs; nil before the first batch
	measuring     *measurement // not finished; nil for none
	costsMeasured bool         // before costly work: once
	taken         int          // tokens of all requests so far, at most

	live      map[*schedule.Request]*request // not ended
	scoring   int                            // live requests that need the device
	reserved  int                            // tokens of all live requests
	executing int                            // batches submitted
	notFinite []*batch                       // to be computed again pair by pair
	resting   time.Time                      // when the last request ended
	closed    bool
	stopping  bool
	stats     counters
	watching  bool // active seconds are logged

	wake       chan struct{} // for the dispatcher: something has changed
	collecting chan *batch
	stopped    chan struct{}
	tokenizing sync.WaitGroup // the tokenizer workers
	ended      sync.WaitGroup // the other goroutines
}

// events are the scheduler's events of a request, in their order. Tests record
// them.
type events interface {
	Admit(*schedule.Request)
	Tokenized(r *schedule.Request, index, length int)
	Release(r *schedule.Request, ready int, at time.Time) int
	Next(at time.Time, closing bool) (*schedule.Batch, time.Duration)
	Submitted(*schedule.Batch, time.Time)
	Collected(*schedule.Batch, []schedule.Timing, time.Time)
	Cut(at time.Time) *schedule.Request
	End(*schedule.Request)
}

func newPipeline(s settings, session backend) *pipeline {
	at := time.Now()
	p := &pipeline{
		settings:   s,
		schedule:   schedule.New(s.batching, at),
		device:     device{session: session, reopen: s.reopen},
		live:       make(map[*schedule.Request]*request),
		resting:    at,
		wake:       make(chan struct{}, 1),
		collecting: make(chan *batch, schedule.MaxInFlight),
		stopped:    make(chan struct{}),
	}
	if s.choose != nil {
		p.choosing = newChoosing()
	}
	p.events = p.schedule
	p.tokenizers = tokenizeWorkers{texts: &p.texts, mu: &p.mu, done: p.chunkDone, spent: func(d time.Duration) { p.stats.Tokenizing += d }}
	p.tokenizers.work.L, p.drained.L = &p.mu, &p.mu
	p.stats.start = at
	for range s.workers {
		p.tokenizing.Go(p.tokenizers.run)
	}
	p.ended.Go(p.dispatch)
	p.ended.Go(p.collect)
	return p
}

// run admits a request and waits for it.
func (p *pipeline) run(ctx context.Context, r *request) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !r.keep && !r.First {
		r.Deadline, _ = ctx.Deadline()
		r.Priority = r.options.Priority.level()
	}
	if r.options.Partial && !r.Deadline.IsZero() {
		r.Partial = true
		r.Deadline = r.Deadline.Add(-partialMargin(time.Until(r.Deadline)))
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.Deadline)
		defer cancel()
	}
	if !r.keep {
		if err := p.waitForChoice(ctx, r.First); err != nil {
			return err
		}
	}
	if err := p.admit(r); err != nil {
		return err
	}
	return p.wait(ctx, r)
}

// partialMargin returns how long before its deadline a partial request is answered, so
// that the answer reaches the caller in time.
func partialMargin(left time.Duration) time.Duration {
	return min(max(left/10, time.Millisecond), 50*time.Millisecond)
}

// admit admits a whole request or refuses it. A request that has inputs is already
// tokenised.
func (p *pipeline) admit(r *request) error {
	p.resolveSide(&r.options)
	r.Whole = r.options.Truncation == TruncateNot
	n, need, tokenised := len(r.pairs), 0, r.inputs != nil
	for i := range n {
		if tokenised {
			need += len(r.inputs[i].IDs)
		} else {
			need += p.texts.reserve(r.pairs[i])
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	if !r.keep {
		p.schedule.Expect(&r.Request, p.expectedLengths(r), at)
	}
	if err := p.refuse(r, need, at); err != nil {
		return err
	}
	r.begin(at)
	p.live[&r.Request] = r
	if !r.keep {
		p.events.Admit(&r.Request)
		p.scoring++
		r.reserved = need
		p.reserved += need
		r.logits = make([]float32, n*p.labels)
		for i := range r.logits {
			if r.Partial {
				r.logits[i] = float32(math.NaN())
			}
		}
	}
	switch {
	case n == 0:
		p.end(r, nil, at)
		return nil
	case tokenised:
		r.next, r.ready = n, n
		for i := range r.inputs {
			p.tokenized(r, i)
		}
		p.events.Release(&r.Request, n, at)
	default:
		r.inputs = make([]Tokens, n)
		p.tokenizers.add(r)
	}
	if !r.keep && !r.First {
		p.watch()
		p.planMeasurement(need)
	}
	p.changed(r, at)
	p.poke() // an unloaded session is loaded while the request is tokenised
	return nil
}

// resolveSide sets the side of truncation where a request names none.
func (p *pipeline) resolveSide(opts *ScoreOptions) {
	if opts.Truncation == "" && opts.DocumentTokens == 0 {
		opts.Truncation = p.side
	}
}

// checkOpen returns ErrClosed after close.
func (p *pipeline) checkOpen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	return nil
}

// expectedLengths returns the lengths of a request's pairs in tokens, estimated
// as long as they are not tokenised.
func (p *pipeline) expectedLengths(r *request) []int {
	lengths := make([]int, len(r.pairs))
	for i, pair := range r.pairs {
		if r.inputs != nil {
			lengths[i] = len(r.inputs[i].IDs)
			continue
		}
		document := p.schedule.TokensIn(len(pair.Document))
		if n := r.options.DocumentTokens; n > 0 {
			document = min(document, n)
		}
		query := p.schedule.TokensIn(len(p.texts.prompt) + len(pair.Query))
		lengths[i] = min(p.texts.frame.special+query+document, p.texts.maxLength)
	}
	return lengths
}

// refuse returns an error if a request that needs so many tokens cannot be admitted.
func (p *pipeline) refuse(r *request, need int, at time.Time) error {
	switch {
	case p.closed:
		return ErrClosed
	case r.keep || r.First && !p.device.hung:
		return nil
	case p.device.unhealthy != nil:
		return fmt.Errorf("%w: %w", ErrUnhealthy, p.device.unhealthy)
	case need > p.capacity:
		p.stats.TooLarge++
		return fmt.Errorf("%w: its %d pairs may have %d tokens, the queue holds %d; split it", ErrTooLarge, len(r.pairs), need, p.capacity)
	case p.reserved+need > p.room(r):
		p.stats.Overloaded++
		return fmt.Errorf("%w: %d of the queue's %d tokens are taken, the request may need %d; try again later", ErrOverloaded, p.reserved, p.capacity, need)
	}
	return p.refuseLate(r, at)
}

// room returns how many tokens all requests may have at once for this one to be
// admitted. Requests of PriorityBatch leave a quarter to the others.
func (p *pipeline) room(r *request) int {
	if r.Priority == schedule.PriorityBatch && p.reserved > 0 {
		return p.capacity - p.capacity/4
	}
	return p.capacity
}

// refuseLate returns an error if the request would miss its deadline, or would make
// another request miss its own.
func (p *pipeline) refuseLate(r *request, at time.Time) error {
	if !r.Deadline.IsZero() && !at.Before(r.Deadline) && !r.Partial {
		return context.DeadlineExceeded
	}
	refusal := p.schedule.Check(&r.Request, at)
	switch {
	case refusal == nil:
		return nil
	case refusal.Never:
		p.stats.TooLarge++
		return r.neverInTime(refusal.Own, refusal.Allowed)
	}
	p.stats.Late++
	if refusal.Other {
		return overloaded(refusal.Excess, "with the request another one would miss its deadline")
	}
	return overloaded(refusal.Excess, "with the work ahead of it the request may take %v, its deadline is in %v", round(refusal.Allowed+refusal.Excess), round(refusal.Allowed))
}

// checkPassages refuses documents whose passages would take longer than the
// context allows, before they are tokenised whole to be cut. most is how many
// tokens of a document count, 0 for all.
func (p *pipeline) checkPassages(ctx context.Context, pairs []Pair, most int) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := new(request)
	r.Deadline = deadline
	budget := p.texts.maxLength - p.texts.frame.special
	var lengths []int
	for _, pair := range pairs {
		room := max(budget-p.schedule.TokensIn(len(pair.Query)), budget/2, 1)
		tokens := p.schedule.TokensIn(len(pair.Document))
		if most > 0 {
			tokens = min(tokens, most)
		}
		passages := 1
		if tokens > room {
			passages = int(math.Ceil(float64(tokens) / float64(room-passageOverlap(room))))
		}
		for range passages {
			lengths = append(lengths, p.texts.frame.special+min(tokens, budget))
		}
	}
	r.passages = len(lengths)
	at := time.Now()
	p.schedule.Expect(&r.Request, lengths, at)
	return p.refuseLate(r, at)
}

// neverInTime returns the error of a request that takes more time than it has.
func (r *request) neverInTime(own, allowed time.Duration) error {
	n, pairs := len(r.pairs), "pairs"
	if r.passages > 0 {
		n, pairs = r.passages, "passages (an estimate)"
	}
	fit := int(float64(n) * max(0, allowed.Seconds()) / own.Seconds())
	advice := "allow more time"
	if fit > 0 {
		advice = fmt.Sprintf("about %d of them fit: split it or allow more time", fit)
	}
	return fmt.Errorf("%w: its %d %s take about %v, the deadline is in %v; %s", ErrTooSlow, n, pairs, round(own), round(allowed), advice)
}

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// wait waits until the request or the caller's context ends. Batches that are
// already executing finish in any case.
func (p *pipeline) wait(ctx context.Context, r *request) error {
	for reported := 0; ; {
		select {
		case <-r.done:
			return r.err
		case <-r.advanced:
			if ctx.Err() == nil { // both may be ready: a cancelled call reports nothing
				reported = p.reportProgress(r, reported)
			}
		case <-ctx.Done():
			if r.abandon != nil && errors.Is(ctx.Err(), context.Canceled) && r.abandon() {
				r.abandoned = true
				return ctx.Err()
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			err := ctx.Err()
			if r.Partial && errors.Is(err, context.DeadlineExceeded) {
				err = nil
			}
			p.end(r, err, time.Now())
			return r.err
		}
	}
}

// reportProgress calls Progress if more pairs are scored than were reported.
func (p *pipeline) reportProgress(r *request, reported int) int {
	p.mu.Lock()
	total := len(r.pairs)
	done := total - r.left
	p.mu.Unlock()
	if done <= reported || done == total {
		return reported
	}
	r.options.Progress(done, total)
	return done
}

// chunkDone receives a chunk from the tokenizer workers and queues its pairs when
// the scheduler allows it.
func (p *pipeline) chunkDone(r *request, c *chunk, err error, at time.Time) {
	r.working--
	if r.ended {
		return
	}
	if err != nil {
		p.end(r, err, at)
		return
	}
	for i := c.from; i < c.to; i++ {
		p.tokenized(r, i)
		if pair, length := r.pairs[i], len(r.inputs[i].IDs); !r.keep {
			// The pair needs fewer tokens than were reserved.
			p.refund(r, p.texts.reserve(pair)-length)
			if !r.inputs[i].Truncated {
				p.schedule.LearnDensity(length-p.texts.frame.special, len(p.texts.prompt)+len(pair.Query)+len(pair.Document))
			}
		}
	}
	r.finish(c)
	switch {
	case r.keep && r.ready == len(r.pairs):
		p.end(r, nil, at)
	case !r.keep && p.events.Release(&r.Request, r.ready, at) > 0:
		p.poke()
	}
	p.changed(r, at)
}

func (p *pipeline) tokenized(r *request, i int) {
	if r.inputs[i].Truncated {
		r.truncated++
	}
	if !r.keep {
		p.events.Tokenized(&r.Request, i, len(r.inputs[i].IDs))
	}
}

func (p *pipeline) refund(r *request, tokens int) {
	r.reserved -= tokens
	p.reserved -= tokens
}

// end answers the request and drops its waiting pairs.
func (p *pipeline) end(r *request, err error, at time.Time) {
	if r.ended {
		return
	}
	r.watch.enter(other, at)
	r.ended, r.err = true, err
	if !r.keep {
		p.events.End(&r.Request)
		p.scoring--
	}
	p.tokenizers.drop(r)
	p.refund(r, r.reserved)
	r.cancel()
	close(r.done)
	delete(p.live, &r.Request)
	if len(p.live) == 0 {
		p.resting = at
		p.drained.Broadcast()
	}
	p.poke()
}

// giveUpHopeless ends the requests that can no longer be answered in time.
func (p *pipeline) giveUpHopeless(at time.Time) {
	for h := p.schedule.Hopeless(at); h != nil; h = p.schedule.Hopeless(at) {
		r := p.live[h.Request]
		left := r.Deadline.Sub(at)
		p.stats.Dropped++
		p.stats.DroppedPairs += int64(h.Left)
		err := overloaded(h.Wait-left, "the request was given up: it would take about %v more, its deadline is in %v", round(h.Wait), round(left))
		if allowed := r.Deadline.Sub(r.watch.start); h.Whole > allowed {
			err = r.neverInTime(h.Whole, allowed)
		}
		p.end(r, err, at)
	}
}

// cutShort drops the pairs of partial requests that can no longer be scored in time.
// What executes still counts if it ends in time.
func (p *pipeline) cutShort(at time.Time) {
	for s := p.events.Cut(at); s != nil; s = p.events.Cut(at) {
		r := p.live[s]
		p.tokenizers.drop(r)
		if r.isAnswered() {
			p.end(r, nil, at)
		}
		p.changed(r, at)
	}
}

// changed enters the request's current stage into its stopwatch.
func (p *pipeline) changed(r *request, at time.Time) {
	if !r.ended {
		r.watch.enter(r.stage(), at)
	}
}

// poke wakes up the dispatcher.
func (p *pipeline) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close refuses new requests, waits for the live ones, and ends the goroutines.
// The session is closed last; if the device hangs, close does not wait for that.
func (p *pipeline) close() error {
	p.mu.Lock()
	p.closed = true
	if p.choosing != nil {
		p.choosing.close()
	}
	p.endMeasuring(ErrClosed)
	p.poke()
	for len(p.live) > 0 || (p.schedule.InFlight() > 0 || p.schedule.Watch() != nil) && !p.device.hung {
		p.drained.Wait()
	}
	hung := p.device.hung
	p.stopping = true
	p.tokenizers.stop()
	close(p.stopped)
	p.poke()
	p.mu.Unlock()
	p.tokenizing.Wait()
	if hung {
		go func() {
			if err := p.closeSession(); err != nil {
				p.log.Warn().Err(err).Msg("closing a session that hung")
			}
		}()
		return fmt.Errorf("engine: closed while the device hangs, the model's memory is freed when it returns: %w", p.device.unhealthy)
	}
	return p.closeSession()
}

// closeSession closes the session when what it computes has returned.
func (p *pipeline) closeSession() error {
	p.ended.Wait()
	var err error
	if p.closeModel != nil {
		err = p.closeModel()
	}
	if p.device.session != nil {
		err = errors.Join(p.device.session.Close(), err)
	}
	return err
}
