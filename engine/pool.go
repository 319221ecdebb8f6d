package engine

import (
	"fmt"
	"runtime/debug"
	"time"
)

// A chunk is pairs of one request that a tokenizer worker takes at once.
type chunk struct {
	from, to int
	done     bool
}

// tokenize is a worker. Workers take chunks of the requests in turns, so that
// a large request does not keep a small one waiting.
func (p *pipeline) tokenize() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.stopping {
		start := time.Now()
		r, c := p.nextChunk(start)
		if r == nil {
			p.work.Wait()
			continue
		}
		p.mu.Unlock()
		err := p.encodeChunk(r, c)
		p.mu.Lock()
		end := time.Now()
		p.stats.Tokenizing += end.Sub(start)
		p.chunkDone(r, c, err, end)
	}
}

// workable says whether a worker may take pairs of the request.
func (p *pipeline) workable(r *request) bool {
	return r.next < len(r.pairs) && (r.keep || r.whole() || r.next-r.taken < aheadPairs)
}

// nextChunk takes one of the first request that has any.
func (p *pipeline) nextChunk(at time.Time) (*request, chunk) {
	for i, r := range p.tokenizing {
		if !p.workable(r) {
			continue
		}
		c := chunk{from: r.next, to: r.next}
		for bytes := 0; c.to < len(r.pairs) && c.to-c.from < chunkPairs && bytes < chunkBytes; c.to++ {
			bytes += len(r.pairs[c.to].Document)
		}
		r.next = c.to
		r.chunks = append(r.chunks, c)
		r.working++
		p.tokenizing = append(p.tokenizing[:i], p.tokenizing[i+1:]...)
		if r.next < len(r.pairs) {
			p.tokenizing = append(p.tokenizing, r)
		}
		p.traced(r, traceChunk, c.to-c.from, at)
		return r, c
	}
	return nil, chunk{}
}

// encodeChunk tokenises and assembles the pairs, whose items nobody else
// touches until it is done.
func (p *pipeline) encodeChunk(r *request, c chunk) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("engine: panic while tokenising: %v\n%s", v, debug.Stack())
		}
	}()
	for at := c.from; at < c.to; at++ {
		pair := &r.pairs[at]
		query, err := p.encodeQuery(r, pair.Query)
		if err != nil {
			return fmt.Errorf("%w: a query of %d bytes: %w", ErrText, len(pair.Query), err)
		}
		document, err := p.encode(r.ctx, pair.Document)
		if err != nil {
			return fmt.Errorf("%w: document %d of %d bytes: %w", ErrText, r.given(at), len(pair.Document), err)
		}
		whole := document.total
		if n := r.options.DocumentTokens; n > 0 {
			document = document.first(n)
		}
		if n := query.total + document.total + minLength; n > p.maxLength && r.options.Truncation == TruncateNot {
			return fmt.Errorf("%w: pair %d has %d tokens, the model takes %d; shorten it, or let it be truncated", ErrTooLong, r.given(at), n, p.maxLength)
		}
		it := &r.items[at]
		it.request, it.place = r, at
		it.ids, it.second, it.cut = join(query, document, p.special, p.maxLength, r.options.Truncation)
		it.cut = it.cut || document.total < whole
		it.length = len(it.ids)
	}
	return nil
}

// encodeQuery encodes each of a request's queries once, or once for each
// worker that needs it at the same time.
func (p *pipeline) encodeQuery(r *request, text string) (encoded, error) {
	p.mu.Lock()
	query, ok := r.queries[text]
	p.mu.Unlock()
	if ok {
		return query, nil
	}
	query, err := p.encode(r.ctx, text)
	if err != nil {
		return encoded{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(r.queries) >= keptQueries {
		clear(r.queries)
	}
	r.queries[text] = query
	return query, nil
}

// chunkDone takes a chunk back and hands pairs to the queue when it is time.
func (p *pipeline) chunkDone(r *request, c chunk, err error, at time.Time) {
	p.traced(r, traceChunkDone, c.to-c.from, at)
	r.working--
	if r.ended {
		return
	}
	if err != nil {
		p.end(r, err, at)
		return
	}
	for i := range r.items[c.from:c.to] {
		p.tokenized(r, &r.items[c.from+i])
	}
	for i := range r.chunks {
		if r.chunks[i].from == c.from {
			r.chunks[i].done = true
		}
	}
	for len(r.chunks) > 0 && r.chunks[0].done {
		r.ready = r.chunks[0].to
		r.chunks = r.chunks[1:]
	}
	switch {
	case !r.keep:
		p.release(r, at)
	case r.ready == len(r.pairs):
		p.end(r, nil, at)
	}
	p.changed(r, at)
}

// tokenized gives back what was reserved for the pair beyond its tokens.
func (p *pipeline) tokenized(r *request, it *item) {
	r.unqueued += it.length
	if it.cut {
		r.truncated++
	}
	if !r.keep {
		p.refund(r, p.reserve(r.pairs[it.place])-it.length)
	}
}

// reserve is how many tokens a pair may have, before they are known.
func (p *pipeline) reserve(pair Pair) int {
	return min(p.maxLength, len(pair.Query)+len(pair.Document)+minLength)
}

func (p *pipeline) refund(r *request, tokens int) {
	r.reserved -= tokens
	p.reserved -= tokens
}

// release hands tokenised pairs to the queue: the last of the request, a
// window full, or two batches full while the device would have nothing to do.
// Nothing of a request that may yet be refused goes before its last pair.
func (p *pipeline) release(r *request, at time.Time) {
	n := r.ready - r.queued
	last := r.ready == len(r.pairs)
	hungry := len(p.queue.waiting) == 0 && p.inFlight < maxInFlight &&
		(n >= 2*p.limits.pairs || r.unqueued >= 2*p.limits.tokens)
	if n == 0 || !last && (r.whole() || n < windowPairs && !hungry) {
		return
	}
	items := r.items[r.queued:r.ready]
	for i := range items {
		r.unqueued -= items[i].length
	}
	r.queued = r.ready
	p.queue.push(r, items, at)
	p.traced(r, traceQueued, n, at)
	p.poke()
}

// untokenize keeps workers from the request.
func (p *pipeline) untokenize(r *request) {
	r.next = len(r.pairs)
	for i, other := range p.tokenizing {
		if other == r {
			p.tokenizing = append(p.tokenizing[:i], p.tokenizing[i+1:]...)
			return
		}
	}
}
