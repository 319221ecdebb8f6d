package engine

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/engine/internal/schedule"
)

const (
	chunkPairs  = 8
	chunkBytes  = 8 << 10
	turnBytes   = 32 << 10 // of a chunk, before another request has its turn
	keptQueries = 256
	chunksAhead = 7 // of interactive requests, before one of PriorityBatch
)

// A chunk holds pairs of one request that a worker tokenises together.
type chunk struct {
	from, to int
	done     bool

	at       int    // index of the current pair
	text     string // of query
	query    encoded
	document encoded
	began    bool // document belongs to the current pair
}

// untokenized is the part of a request that its tokenising needs. The engine's
// lock guards it.
type untokenized struct {
	next    int      // first pair that no worker has taken
	chunks  []*chunk // taken, in order, without the finished ones at the beginning
	aside   []*chunk // of these, begun and put aside
	working int      // chunks that workers have, or that are put aside
	ready   int      // pairs tokenised without a gap before them
}

// tokenizeWorkers are the goroutines that tokenise the pairs of all requests. They
// take one chunk of each request in turn, and put aside a chunk that takes long. So
// a small request does not wait for a large request or a long text.
type tokenizeWorkers struct {
	texts    *pairEncoder
	mu       *sync.Mutex // the engine's
	work     sync.Cond
	turns    []*request // with pairs that no worker has taken, in the order of their turns
	ahead    int        // chunks of interactive requests taken since one of PriorityBatch
	stopping bool

	// done and spent are called under the lock, with every chunk that is tokenised
	// or has failed, and with the time of every turn.
	done  func(r *request, c *chunk, err error, at time.Time)
	spent func(time.Duration)
}

// run runs one worker.
func (w *tokenizeWorkers) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopping {
		start := time.Now()
		r, c := w.nextChunk()
		if r == nil {
			w.work.Wait()
			continue
		}
		w.mu.Unlock()
		done, err := w.texts.encodeChunk(r, c)
		w.mu.Lock()
		end := time.Now()
		w.spent(end.Sub(start))
		if done || err != nil {
			w.done(r, c, err, end)
		} else {
			w.putAside(r, c)
		}
	}
}

// add queues a request for the workers.
func (w *tokenizeWorkers) add(r *request) {
	w.turns = append(w.turns, r)
	w.work.Broadcast()
}

// drop takes a request from the workers.
func (w *tokenizeWorkers) drop(r *request) {
	r.next, r.aside = len(r.pairs), nil
	w.turns = slices.DeleteFunc(w.turns, func(other *request) bool { return other == r })
}

// resume continues requests that had enough pairs waiting for batches.
func (w *tokenizeWorkers) resume(requests []*request) {
	if slices.ContainsFunc(requests, func(r *request) bool { return r.next < len(r.pairs) && r.workable() }) {
		w.work.Broadcast()
	}
}

func (w *tokenizeWorkers) stop() {
	w.stopping = true
	w.work.Broadcast()
}

// workable reports whether a worker may take pairs of the request.
func (r *request) workable() bool {
	return len(r.aside) > 0 || r.next < len(r.pairs) && (r.keep || r.Whole || r.next-r.Taken() < schedule.AheadPairs)
}

// nextChunk takes a chunk of the first request that has one. Interactive requests go
// first, but every eighth chunk is another one's if there is any.
func (w *tokenizeWorkers) nextChunk() (*request, *chunk) {
	first := -1
	for i, r := range w.turns {
		if !r.workable() {
			continue
		}
		if first < 0 {
			first = i
		}
		if interactive := r.Priority == schedule.PriorityInteractive; interactive == (w.ahead < chunksAhead) {
			first = i
			break
		}
	}
	if first < 0 {
		return nil, nil
	}
	r := w.turns[first]
	if w.ahead++; r.Priority == schedule.PriorityBatch {
		w.ahead = 0
	}
	c := r.takeChunk()
	w.turns = append(w.turns[:first], w.turns[first+1:]...)
	if r.next < len(r.pairs) || len(r.aside) > 0 {
		w.turns = append(w.turns, r)
	}
	return r, c
}

// takeChunk takes a chunk that was put aside, or else the request's next one.
func (r *request) takeChunk() *chunk {
	if len(r.aside) > 0 {
		c := r.aside[0]
		r.aside = r.aside[1:]
		return c
	}
	c := &chunk{from: r.next, to: r.next, at: r.next}
	for bytes := 0; c.to < len(r.pairs) && c.to-c.from < chunkPairs && bytes < chunkBytes; c.to++ {
		bytes += len(r.pairs[c.to].Document)
	}
	r.next = c.to
	r.chunks = append(r.chunks, c)
	r.working++
	return c
}

// putAside leaves the rest of a chunk to the request's next turn.
func (w *tokenizeWorkers) putAside(r *request, c *chunk) {
	if r.ended {
		return
	}
	r.aside = append(r.aside, c)
	if !slices.Contains(w.turns, r) {
		w.turns = append(w.turns, r)
	}
	w.work.Signal()
}

// finish counts a chunk as tokenised, and the pairs up to the first gap as ready.
func (u *untokenized) finish(c *chunk) {
	c.done = true
	for len(u.chunks) > 0 && u.chunks[0].done {
		u.ready = u.chunks[0].to
		u.chunks = u.chunks[1:]
	}
}

// An encodeFunc tokenises a part of a text, its first or its last one: see
// tokenizer.encodePart.
type encodeFunc func(ctx context.Context, text string, done int, last bool) (ids []uint32, at cut, err error)

// A pairEncoder makes the tokens of pairs.
type pairEncoder struct {
	maxLength int
	beyond    beyond
	frame     frame
	prompt    string // before every query

	encode encodeFunc
}

// encodeChunk tokenises and assembles pairs. Only this worker touches their
// tokens until the chunk is done. It stops after turnBytes.
func (e *pairEncoder) encodeChunk(r *request, c *chunk) (done bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("engine: panic while tokenising: %v\n%s", v, debug.Stack())
		}
	}()
	for bytes := 0; c.at < c.to; {
		if bytes >= turnBytes {
			return false, nil
		}
		n, err := e.encodePair(r, c)
		if err != nil {
			return false, err
		}
		bytes += n
	}
	return true, nil
}

// encodePair tokenises the next part of the chunk's pair, or assembles the pair
// if no more of its texts counts. It returns how many bytes it has tokenised.
func (e *pairEncoder) encodePair(r *request, c *chunk) (bytes int, err error) {
	pair := &r.pairs[c.at]
	if !c.began {
		c.began, c.document = true, untokenised(pair.Document)
		if c.at == c.from || pair.Query != c.text {
			c.text, c.query = pair.Query, r.queries.get(pair.Query, e.prompt)
		}
	}
	query, document := &c.query, c.document
	if n := r.options.DocumentTokens; n > 0 {
		document = document.first(n)
	}
	if n := query.total + document.total + e.frame.special; n > e.maxLength && r.Whole {
		least := "at least "
		if query.whole() && document.whole() {
			least = ""
		}
		return 0, &TextError{r.given(c.at), false, ErrTooLong, fmt.Errorf("%s%d tokens, the model takes %d; shorten it, or let it be truncated", least, n, e.maxLength)}
	}
	switch e.frame.findMissing(*query, c.document, e.maxLength, r.options.DocumentTokens) {
	case missesQuery:
		bytes, err = e.encodeMore(r, query)
		if err != nil {
			return 0, &TextError{r.given(c.at), true, ErrText, fmt.Errorf("%d bytes: %w", len(pair.Query), err)}
		}
		r.queries.put(pair.Query, *query)
	case missesDocument:
		bytes, err = e.encodeMore(r, &c.document)
		if err != nil {
			return 0, &TextError{r.given(c.at), false, ErrText, fmt.Errorf("%d bytes: %w", len(pair.Document), err)}
		}
	default:
		tokens := e.frame.join(*query, document, e.maxLength, r.options.Truncation)
		tokens.Truncated = tokens.Truncated || document.total < c.document.total
		if err := e.beyond.check(tokens.IDs); err != nil {
			return 0, &TextError{r.given(c.at), e.beyond.check(query.ids) != nil, ErrText, err}
		}
		r.inputs[c.at] = tokens
		c.at++
		c.began = false
	}
	return bytes, nil
}

// encodeMore tokenises the next part of a text.
func (e *pairEncoder) encodeMore(r *request, text *encoded) (bytes int, err error) {
	side := r.options.Truncation
	ids, at, err := e.encode(r.ctx, text.rest, text.word.bytes, side == TruncateLeft)
	if err != nil {
		return 0, err
	}
	bytes = at.at
	if side == TruncateLeft {
		bytes = len(text.rest) - at.at
	}
	*text = text.add(ids, at, e.maxLength, side)
	return bytes, nil
}

// reserve returns how many tokens a pair may have, before they are known. It takes a
// token for at least a byte. Some tokenizers put a space before each text, or make
// more tokens of rare characters; such a pair has reserved too little.
func (e *pairEncoder) reserve(pair Pair) int {
	return min(e.maxLength, len(e.prompt)+len(pair.Query)+len(pair.Document)+e.frame.special)
}

// A queryCache keeps a request's queries as far as they are tokenised. Each is
// tokenised once, or once for each worker that needs it at the same time.
type queryCache struct {
	mu   sync.Mutex
	kept map[string]encoded
}

func (q *queryCache) get(text, prompt string) encoded {
	q.mu.Lock()
	defer q.mu.Unlock()
	if query, ok := q.kept[text]; ok {
		return query
	}
	return untokenised(prompt + text)
}

func (q *queryCache) put(text string, query encoded) {
	q.mu.Lock()
	defer q.mu.Unlock()
	kept, ok := q.kept[text]
	if ok && (len(kept.rest) < len(query.rest) || len(kept.rest) == len(query.rest) && kept.word.bytes >= query.word.bytes) {
		return
	}
	if q.kept == nil || !ok && len(q.kept) >= keptQueries {
		q.kept = make(map[string]encoded)
	}
	q.kept[text] = query
}
