package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// A fakeBackend executes one batch after another, each for the time that takes or
// model returns. A logit is a sum over the pair's ids that depends on their order.
// In a testing/synctest bubble the time is virtual.
type fakeBackend struct {
	takes  func(b mlx.Batch) time.Duration // evenly divided over the microbatches
	model  *schedule.Costs                 // alternative to takes: the costs of each microbatch
	submit func(n int) error               // fails or panics at the n-th call
	finish func(n int) error               // the same for Collect
	bad    func(id int32) bool             // whether a pair with the id has no finite logit; nil for none

	mu        sync.Mutex
	last      mlx.Ticket
	until     time.Time // when all submitted batches are finished
	running   map[mlx.Ticket]fakeBatch
	submitted int
	collected int
	closed    int
	pairs     int
	seen      map[int32]int // how often each id was executed
}

type fakeBatch struct {
	bad    error // of the first pair without a finite logit
	logits []float32
	stats  mlx.Stats
	from   time.Time
	until  time.Time
}

func (f *fakeBackend) Submit(b mlx.Batch) (mlx.Ticket, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.submitted++
	if f.submit != nil {
		if err := f.submit(f.submitted); err != nil {
			return 0, err
		}
	}
	if len(f.running) == schedule.MaxInFlight {
		return 0, mlx.ErrBusy
	}
	now := time.Now()
	if now.After(f.until) {
		f.until = now
	}
	run := fakeBatch{from: f.until}
	run.stats, run.until = f.execute(b, now, run.from)
	f.until = run.until
	at := 0
	for _, n := range b.Lengths {
		ids := b.IDs[at : at+int(n)]
		run.logits = append(run.logits, fakeLogit(ids, b.TypeIDs[at:at+int(n)]))
		at += int(n)
		for _, id := range ids {
			f.count(id)
			if f.bad != nil && f.bad(id) && run.bad == nil {
				run.bad = &mlx.NativeError{Call: "collect", Status: 7, Text: fmt.Sprintf("logit 0 of pair %d is nan", len(run.logits)-1)}
			}
		}
	}
	f.pairs += len(b.Lengths)
	if f.running == nil {
		f.running = make(map[mlx.Ticket]fakeBatch)
	}
	f.last++
	f.running[f.last] = run
	return f.last, nil
}

func (f *fakeBackend) count(id int32) {
	if f.seen == nil {
		f.seen = make(map[int32]int)
	}
	f.seen[id]++
}

// execute returns the figures and the end of a batch that begins at from.
func (f *fakeBackend) execute(b mlx.Batch, now, from time.Time) (mlx.Stats, time.Time) {
	s := mlx.Stats{Tokens: len(b.IDs)}
	whole := time.Duration(0)
	if f.takes != nil {
		whole = f.takes(b)
	}
	at, until := 0, from
	for i, n := range b.Microbatches {
		shard := mlx.Microbatch{Pairs: int(n), StartNs: int64(until.Sub(now))}
		widest := int32(0)
		for _, length := range b.Lengths[at : at+int(n)] {
			widest = max(widest, length)
			shard.Tokens += int(length)
		}
		at += int(n)
		shard.ComputedTokens = int(n) * int(widest)
		until = from.Add(whole * time.Duration(i+1) / time.Duration(len(b.Microbatches)))
		if f.model != nil {
			until = now.Add(time.Duration(shard.StartNs) + time.Duration(f.model.Of(schedule.Padded(int(n), int(widest)))))
		}
		shard.FinishNs = int64(until.Sub(now))
		s.ComputedTokens += shard.ComputedTokens
		s.Microbatches = append(s.Microbatches, shard)
	}
	s.ExecuteNs = int64(until.Sub(now))
	return s, until
}

func (f *fakeBackend) Collect(t mlx.Ticket, out []float32) (mlx.Stats, error) {
	f.mu.Lock()
	run, ok := f.running[t]
	f.mu.Unlock()
	if !ok || len(out) != len(run.logits) {
		return mlx.Stats{}, errors.New("unknown ticket, or out has the wrong length")
	}
	time.Sleep(time.Until(run.until))
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, t)
	f.collected++
	if f.finish != nil {
		if err := f.finish(f.collected); err != nil {
			return mlx.Stats{}, err
		}
	}
	if run.bad != nil {
		return mlx.Stats{}, run.bad
	}
	copy(out, run.logits)
	return run.stats, nil
}

func (f *fakeBackend) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	if len(f.running) > 0 {
		return fmt.Errorf("closed with %d batches running", len(f.running))
	}
	return nil
}

func fakeLogit(ids, typeIDs []int32) float32 {
	sum := 0
	for i, id := range ids {
		sum = (sum*31 + int(id)*2 + int(typeIDs[i])) % 1000003
	}
	return float32(sum)
}

// fakeText returns a text whose words are its token ids, after the duration that
// encoding takes.
func fakeText(pause time.Duration, first, n int) string {
	var b strings.Builder
	b.WriteString(pause.String())
	for i := range n {
		b.WriteString(" " + strconv.Itoa(first+i))
	}
	return b.String()
}

var fakeFrame = bertFrame(1, 2)

// fakeEncode encodes a fake text as one part.
func fakeEncode(ctx context.Context, text string, _ int, last bool) ([]uint32, cut, error) {
	pause, words, _ := strings.Cut(text, " ")
	wait, err := time.ParseDuration(pause)
	if err != nil {
		return nil, cut{}, err
	}
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, cut{}, ctx.Err()
		}
	}
	var ids []uint32
	for _, word := range strings.Fields(words) {
		id, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, cut{}, err
		}
		ids = append(ids, uint32(id))
	}
	if last {
		return ids, cut{}, nil
	}
	return ids, cut{at: len(text)}, nil
}

// fakePairLogit returns the expected logit of a pair of fake texts.
func fakePairLogit(t testing.TB, p Pair, maxLength int) float32 {
	t.Helper()
	part := func(text string) encoded {
		_, words, _ := strings.Cut(text, " ")
		ids, _, err := fakeEncode(context.Background(), "0s "+words, 0, false)
		if err != nil {
			t.Fatal(err)
		}
		return encoded{}.add(ids, cut{}, len(ids), TruncateRight)
	}
	tokens := fakeFrame.join(part(p.Query), part(p.Document), maxLength, TruncateRight)
	return fakeLogit(tokens.IDs, tokens.TypeIDs)
}

const fakeMaxLength = 64

func fakeSettings() settings {
	return settings{
		batching: schedule.Config{
			Layout: schedule.Layout{Grid: 1, MaxWidth: fakeMaxLength, Workers: 1, Tokens: 512},
			Costs:  schedule.Costs{Microbatch: 1e5, Token: 1e4},
			Limits: schedule.Limits{Pairs: 16, Tokens: 512},
		},
		texts:    pairEncoder{maxLength: fakeMaxLength, frame: fakeFrame, encode: fakeEncode},
		capacity: 1 << 20,
		labels:   1,
		workers:  2,
		log:      zerolog.Nop(),
	}
}

// fakeEngine returns an engine that the test must close inside its bubble.
func fakeEngine(s settings, b backend) *Engine {
	e := &Engine{tokenizer: &tokenizer{}, scorer: scorer{function: weights.ScoringRaw}, log: s.log, pipeline: newPipeline(s, b)}
	e.close = e.closeOnce()
	return e
}

// randomTime returns a random duration shorter than longest.
func randomTime(r *rand.Rand, longest time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(longest)))
}

// fakePairs returns n pairs of random fake texts.
func fakePairs(r *rand.Rand, n int, longestPause time.Duration) []Pair {
	pause := func() time.Duration {
		if longestPause == 0 {
			return 0
		}
		return randomTime(r, longestPause).Truncate(10 * time.Microsecond)
	}
	query := fakeText(pause(), 100+r.IntN(1000), 1+r.IntN(5))
	pairs := make([]Pair, n)
	for i := range pairs {
		pairs[i] = Pair{Query: query, Document: fakeText(pause(), 1000+r.IntN(1e6), r.IntN(70))}
	}
	return pairs
}

func checkFakeScores(t testing.TB, pairs []Pair, r *Result) {
	t.Helper()
	if len(r.Scores) != len(pairs) {
		t.Fatalf("%d scores for %d pairs", len(r.Scores), len(pairs))
	}
	for i, pair := range pairs {
		if slices.Contains(r.Unscored, i) {
			if !math.IsNaN(float64(r.Logits[i])) || !math.IsNaN(float64(r.Scores[i])) {
				t.Fatalf("pair %d has no score, but %v and the logit %v", i, r.Scores[i], r.Logits[i])
			}
			continue
		}
		if want := fakePairLogit(t, pair, fakeMaxLength); r.Logits[i] != want {
			t.Fatalf("pair %d of %d has logit %v, want %v", i, len(pairs), r.Logits[i], want)
		}
	}
}

// closings returns how often the backend was closed.
func (f *fakeBackend) closings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}
