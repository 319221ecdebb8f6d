package engine

import (
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// A chunk is pairs of one request that a tokenizer worker takes at once.
type chunk struct {
	from, to int
	done     bool

	at       int    // the pair it is at
	text     string // the query that query is of
	query    encoded
	document encoded
	began    bool // document is of the pair
}

// tokenize is a worker. Workers take chunks of the requests in turns, and put
// one aside that takes long, so that a large request or a long text does not
// keep a small one waiting.
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
		done, err := p.encodeChunk(r, c)
		p.mu.Lock()
		end := time.Now()
		p.stats.Tokenizing += end.Sub(start)
		if done || err != nil {
			p.chunkDone(r, c, err, end)
		} else {
			p.putAside(r, c)
		}
	}
}

// workable says whether a worker may take pairs of the request.
func (p *pipeline) workable(r *request) bool {
	return len(r.aside) > 0 || r.next < len(r.pairs) && (r.keep || r.whole() || r.next-r.taken < aheadPairs)
}

// nextChunk takes one of the first request that has any.
func (p *pipeline) nextChunk(at time.Time) (*request, *chunk) {
	for i, r := range p.tokenizing {
		if !p.workable(r) {
			continue
		}
		c := p.takeChunk(r, at)
		p.tokenizing = append(p.tokenizing[:i], p.tokenizing[i+1:]...)
		if r.next < len(r.pairs) || len(r.aside) > 0 {
			p.tokenizing = append(p.tokenizing, r)
		}
		return r, c
	}
	return nil, nil
}

// takeChunk takes a chunk that was put aside, or else the request's next one.
func (p *pipeline) takeChunk(r *request, at time.Time) *chunk {
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
	p.traced(r, traceChunk, c.to-c.from, at)
	return c
}

// putAside leaves the rest of a chunk to the request's next turn.
func (p *pipeline) putAside(r *request, c *chunk) {
	if r.ended {
		return
	}
	r.aside = append(r.aside, c)
	if !slices.Contains(p.tokenizing, r) {
		p.tokenizing = append(p.tokenizing, r)
	}
	p.work.Signal()
}

// encodeChunk tokenises and assembles pairs, whose items nobody else touches
// until the chunk is done. It stops after turnBytes.
func (p *pipeline) encodeChunk(r *request, c *chunk) (done bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("engine: panic while tokenising: %v\n%s", v, debug.Stack())
		}
	}()
	for bytes := 0; c.at < c.to; {
		if bytes >= turnBytes {
			return false, nil
		}
		n, err := p.encodePair(r, c)
		if err != nil {
			return false, err
		}
		bytes += n
	}
	return true, nil
}

// encodePair tokenises the next part of the chunk's pair, or assembles it if no
// more of its texts counts. It returns the bytes that it has tokenised.
func (p *pipeline) encodePair(r *request, c *chunk) (bytes int, err error) {
	pair := &r.pairs[c.at]
	if !c.began {
		c.began, c.document = true, untokenised(pair.Document)
		if c.at == c.from || pair.Query != c.text {
			c.text, c.query = pair.Query, p.knownQuery(r, pair.Query)
		}
	}
	query, document := &c.query, c.document
	if n := r.options.DocumentTokens; n > 0 {
		document = document.first(n)
	}
	if n := query.total + document.total + p.frame.special; n > p.maxLength && r.whole() {
		least := "at least "
		if query.whole() && document.whole() {
			least = ""
		}
		return 0, &TextError{r.given(c.at), false, ErrTooLong, fmt.Errorf("%s%d tokens, the model takes %d; shorten it, or let it be truncated", least, n, p.maxLength)}
	}
	switch p.frame.findMissing(*query, c.document, p.maxLength, r.options.DocumentTokens) {
	case missesQuery:
		bytes, err = p.encodeMore(r, query)
		if err != nil {
			return 0, &TextError{r.given(c.at), true, ErrText, fmt.Errorf("%d bytes: %w", len(pair.Query), err)}
		}
		p.keepQuery(r, pair.Query, *query)
	case missesDocument:
		bytes, err = p.encodeMore(r, &c.document)
		if err != nil {
			return 0, &TextError{r.given(c.at), false, ErrText, fmt.Errorf("%d bytes: %w", len(pair.Document), err)}
		}
	default:
		it := &r.items[c.at]
		it.request, it.place = r, c.at
		tokens := p.frame.join(*query, document, p.maxLength, r.options.Truncation)
		it.ids, it.types = tokens.IDs, tokens.TypeIDs
		it.cut = tokens.Truncated || document.total < c.document.total
		if err := p.beyond.check(it.ids); err != nil {
			return 0, &TextError{r.given(c.at), p.beyond.check(query.ids) != nil, ErrText, err}
		}
		it.length = len(it.ids)
		c.at++
		c.began = false
	}
	return bytes, nil
}

// encodeMore tokenises the next part of a text.
func (p *pipeline) encodeMore(r *request, e *encoded) (bytes int, err error) {
	side := r.options.Truncation
	ids, rest, err := p.encode(r.ctx, e.rest, side == TruncateLeft)
	if err != nil {
		return 0, err
	}
	bytes = len(e.rest) - len(rest)
	*e = e.add(ids, rest, p.maxLength, side)
	return bytes, nil
}

// knownQuery is a query as far as the request has it tokenised. Each is
// tokenised once, or once for each worker that needs it at the same time.
func (p *pipeline) knownQuery(r *request, text string) encoded {
	p.mu.Lock()
	defer p.mu.Unlock()
	if query, ok := r.queries[text]; ok {
		return query
	}
	return untokenised(p.prompt + text)
}

func (p *pipeline) keepQuery(r *request, text string, query encoded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, ok := r.queries[text]
	if ok && len(kept.rest) <= len(query.rest) {
		return
	}
	if !ok && len(r.queries) >= keptQueries {
		clear(r.queries)
	}
	r.queries[text] = query
}

// chunkDone takes a chunk back and hands pairs to the queue when it is time.
func (p *pipeline) chunkDone(r *request, c *chunk, err error, at time.Time) {
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
	c.done = true
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
		p.learnWidth(r, it)
		p.refund(r, p.reserve(r.pairs[it.place])-it.length)
	}
}

// learnWidth replaces the estimate of a pair's width.
func (p *pipeline) learnWidth(r *request, it *item) {
	r.todo.remove(it.width)
	it.width = p.queue.width(it)
	r.todo.add(it.width)
	if bytes := float64(len(p.prompt) + len(r.pairs[it.place].Query) + len(r.pairs[it.place].Document)); !it.cut {
		p.density.add(float64(it.length-p.frame.special), bytes, bytes/densityMemory)
	}
}

// reserve is how many tokens a pair may have, before they are known.
func (p *pipeline) reserve(pair Pair) int {
	return min(p.maxLength, len(p.prompt)+len(pair.Query)+len(pair.Document)+p.frame.special)
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
	r.next, r.aside = len(r.pairs), nil
	for i, other := range p.tokenizing {
		if other == r {
			p.tokenizing = append(p.tokenizing[:i], p.tokenizing[i+1:]...)
			return
		}
	}
}
