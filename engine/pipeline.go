package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// backend is where batches run: an mlx.Session, or a fake in tests. Collect
// may be called while Submit is.
type backend interface {
	Submit(mlx.Batch) (mlx.Ticket, error)
	Collect(mlx.Ticket, []float32) (mlx.Stats, error)
	Close() error
}

// settings are what a pipeline is made with.
type settings struct {
	planner   planner // its costs are only the first ones
	limits    limits
	window    time.Duration // a batch waits so long for company; 0 never
	capacity  int           // tokens of all requests at once
	maxLength int
	beyond    beyond
	frame     frame
	prompt    string     // ahead of every query
	side      Truncation // of requests that name none
	labels    int
	workers   int // tokenizer workers

	// encode tokenises a part of a text, its first or its last one.
	encode          func(ctx context.Context, text string, last bool) (ids []uint32, rest string, err error)
	calibration     Calibration // changes under the lock
	calibrationFile string      // "" for none

	loading         time.Duration // that opening the session took
	idle            time.Duration // after which the session is closed; 0 never
	trim            func() error  // gives back what a closed session leaves
	reopen          func() (backend, error)
	log             zerolog.Logger
	noRequestEvents bool                    // Config.OmitRequestEvents
	machine         telemetry.MachineReader // nil logs no seconds
	trace           func(traceEvent)        // of tests; called under the lock
}

const (
	maxInFlight = 2 // tickets, as mlx.Session allows
	chunkPairs  = 8
	chunkBytes  = 8 << 10
	turnBytes   = 32 << 10 // that a worker tokenises of a chunk at once
	keptQueries = 256

	driftRate = 0.05

	// A request's pairs come to the queue in windows, so that a batch does not
	// depend on how fast the tokenizer was, and no further than two windows ahead
	// of the batches.
	windowPairs = 1024
	aheadPairs  = 2 * windowPairs
)

// A pipeline takes requests through their stages: tokenizer workers, the queue,
// a goroutine that submits batches and one that collects them. One lock guards
// the state; it is never held while a text is encoded or a batch executes.
type pipeline struct {
	settings

	mu         sync.Mutex
	work       sync.Cond // for the tokenizer workers
	drained    sync.Cond // for close
	queue      queue
	tokenizing []*request            // with pairs no worker has taken, in turns
	live       map[*request]struct{} // not ended
	reserved   int                   // tokens of all live requests
	admitted   int64                 // requests so far
	timed      int                   // live requests with a deadline
	flying     []*batch              // taken from the queue and not collected, in order
	inFlight   int                   // batches submitted, or on their way to it
	executing  int                   // batches submitted
	closed     bool
	stopping   bool
	stats      counters
	watching   bool // active seconds are logged

	drift       float64   // of measured times against the cost model
	pace        ratio     // of batches' times to the cost model's, for forecasts
	padding     ratio     // of full batches: their cost to that of their pairs
	density     ratio     // tokens of a byte
	measured    time.Time // when the pace last was
	batches     int       // that it was measured by
	warm        bool      // the session has executed a batch
	calibrating bool      // before costly work: once
	jobs        []job

	session       backend       // nil while unloaded
	loading       time.Duration // that it took the last time
	loadingSince  time.Time     // zero while it is not loading
	resting       time.Time     // since when there is no request
	device        deviceState
	lastCollected time.Time

	wake       chan struct{} // for the submitter: something has changed
	collecting chan *batch
	stopped    chan struct{}
	ended      sync.WaitGroup
}

func newPipeline(s settings, session backend) *pipeline {
	p := &pipeline{
		settings:   s,
		queue:      queue{planner: s.planner, limits: s.limits},
		live:       make(map[*request]struct{}),
		drift:      1,
		pace:       ratio{},
		padding:    ratio{over: 1, under: 1},
		density:    ratio{over: firstDensity, under: 1},
		loading:    s.loading,
		session:    session,
		wake:       make(chan struct{}, 1),
		collecting: make(chan *batch, maxInFlight),
		stopped:    make(chan struct{}),
	}
	p.work.L, p.drained.L = &p.mu, &p.mu
	if s.calibration.Source == "cached" {
		p.pace.add(1e9, 1e9, 0)
	}
	p.stats.start = time.Now()
	p.measured = p.stats.start
	p.resting = p.stats.start
	for range s.workers {
		p.ended.Go(p.tokenize)
	}
	p.ended.Go(p.submitAll)
	p.ended.Go(p.collectAll)
	return p
}

// admit takes a request in, the whole of it or nothing.
func (p *pipeline) admit(r *request) error {
	if r.options.Truncation == "" && r.options.DocumentTokens == 0 {
		r.options.Truncation = p.side
	}
	need := 0
	for _, pair := range r.pairs {
		need += p.reserve(pair)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := time.Now()
	n := len(r.pairs)
	r.items = make([]item, n)
	if !r.keep {
		p.estimate(r)
	}
	if err := p.refuse(r, need, at); err != nil {
		return err
	}
	r.begin(n, at)
	p.enlist(r)
	p.traced(r, traceAccepted, n, at)
	if n == 0 {
		p.end(r, nil, at)
		return nil
	}
	if !r.keep {
		r.reserved = need
		p.reserved += need
		r.logits = make([]float32, n*p.labels)
		p.watch()
	}
	p.tokenizing = append(p.tokenizing, r)
	p.changed(r, at)
	p.work.Broadcast()
	if p.session == nil {
		p.poke() // it is loaded while the request is tokenised
	}
	return nil
}

// enlist adds a request to the live ones.
func (p *pipeline) enlist(r *request) {
	p.live[r] = struct{}{}
	p.admitted++
	r.number = p.admitted
	if !r.deadline.IsZero() {
		p.timed++
	}
}

// probe takes in a pair of nothing but special tokens, which goes first.
func (p *pipeline) probe(r *request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	at := time.Now()
	r.begin(1, at)
	p.enlist(r)
	r.logits = make([]float32, p.labels)
	tokens := p.frame.join(encoded{}, encoded{}, p.maxLength, TruncateRight)
	r.items = []item{{request: r, ids: tokens.IDs, types: tokens.TypeIDs, length: len(tokens.IDs)}}
	p.queue.push(r, r.items, at)
	r.queued = 1
	p.changed(r, at)
	p.poke()
	return nil
}

// refuse says why a request that needs so many tokens cannot be taken in.
func (p *pipeline) refuse(r *request, need int, at time.Time) error {
	switch {
	case p.closed:
		return ErrClosed
	case r.keep:
		return nil
	case p.device.unhealthy != nil:
		return fmt.Errorf("%w: %w", ErrUnhealthy, p.device.unhealthy)
	case need > p.capacity:
		p.stats.TooLarge++
		return fmt.Errorf("%w: its %d pairs may have %d tokens, the queue holds %d; split it", ErrTooLarge, len(r.pairs), need, p.capacity)
	case p.reserved+need > p.capacity:
		p.stats.Overloaded++
		return fmt.Errorf("%w: %d of the queue's %d tokens are taken, the request may need %d; try again later", ErrOverloaded, p.reserved, p.capacity, need)
	}
	return p.refuseLate(r, at)
}

// wait waits for the request or for the caller's context, which frees the
// caller at once. What of the request is executing runs to its end behind it.
func (p *pipeline) wait(ctx context.Context, r *request) error {
	for told := 0; ; {
		select {
		case <-r.done:
			return r.err
		case <-r.advanced:
			told = p.tell(r, told)
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			p.end(r, ctx.Err(), time.Now())
			return r.err
		}
	}
}

// tell tells how many pairs are scored, if that are more than were told of.
func (p *pipeline) tell(r *request, told int) int {
	p.mu.Lock()
	total := len(r.pairs)
	done := total - r.left
	p.mu.Unlock()
	if done <= told || done == total {
		return told
	}
	r.options.Progress(done, total)
	return done
}

// end answers the request and forgets what is left of it.
func (p *pipeline) end(r *request, err error, at time.Time) {
	if r.ended {
		return
	}
	r.watch.enter(other, at)
	p.traced(r, traceEnded, 0, at)
	r.ended, r.err = true, err
	p.queue.drop(r)
	p.untokenize(r)
	p.refund(r, r.reserved)
	r.cancel()
	close(r.done)
	delete(p.live, r)
	if !r.deadline.IsZero() {
		p.timed--
	}
	if len(p.live) == 0 {
		p.resting = at
		p.drained.Broadcast()
	}
	p.poke()
}

// changed keeps the request's stopwatch.
func (p *pipeline) changed(r *request, at time.Time) {
	if r.ended {
		return
	}
	r.watch.enter(r.stage(p.workable(r)), at)
}

// poke tells the submitter that something has changed.
func (p *pipeline) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// close refuses new requests, waits for those at work, and ends the
// goroutines. The session is closed last.
func (p *pipeline) close() error {
	p.mu.Lock()
	p.closed = true
	p.poke()
	for len(p.live) > 0 || p.inFlight > 0 || len(p.jobs) > 0 {
		p.drained.Wait()
	}
	p.stopping = true
	close(p.stopped)
	p.work.Broadcast()
	p.poke()
	p.mu.Unlock()
	p.ended.Wait()
	if p.session == nil {
		return nil
	}
	return p.session.Close()
}

func (p *pipeline) layout() layout { return p.planner.layout }
