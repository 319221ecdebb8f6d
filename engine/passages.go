package engine

import (
	"context"
	"math"
)

// A Span is a part of a text, in bytes: text[Start:End].
type Span struct{ Start, End int }

// passageOverlap returns how many tokens two passages of a document share: a quarter, so
// that an answer cut by the end of one is whole in the next.
func passageOverlap(room int) int { return room / 4 }

// A segment is the smallest part of a text that passages are made of: the text
// between two places where the text can be cut without changing its tokens.
type segment struct {
	Span
	tokens int
}

// room returns how many tokens of a document fit into a pair with the query. A query
// of more than half the maximum length counts as that half, because truncation cuts
// it so far.
func (t *tokenizer) room(query encoded) int {
	budget := t.maxLength - t.frame.special
	return max(budget-query.total, budget/2)
}

// passages cuts a document into overlapping passages, each of which fits with the
// query into the maximum length. A document that fits is one passage. If most is not
// 0, only the first most tokens count, without a word that they end in.
func (t *tokenizer) passages(ctx context.Context, query encoded, document string, most int) ([]Span, error) {
	whole := []Span{{0, len(document)}}
	room := t.room(query)
	if fits, err := t.fits(ctx, document, room); fits || err != nil || most > 0 && most <= room {
		return whole, err
	}
	if most == 0 {
		most = math.MaxInt
	}
	segments, err := t.segments(ctx, document, most)
	if err != nil {
		return nil, err
	}
	total := countTokens(segments)
	if total <= room {
		return whole, nil
	}
	if total > most {
		segments = segments[:len(segments)-1]
	}
	return slide(segments, room, passageOverlap(room)), nil
}

// seen returns the part of a document that truncation leaves in a pair with the query.
func (t *tokenizer) seen(ctx context.Context, query encoded, document string, opts ScoreOptions) (Span, error) {
	room := t.room(query)
	if opts.DocumentTokens > 0 {
		room = min(room, opts.DocumentTokens)
	}
	if fits, err := t.fits(ctx, document, room); fits || err != nil {
		return Span{0, len(document)}, err
	}
	stop := room - 1 // with the segment that has token number room
	if opts.Truncation == TruncateLeft {
		stop = math.MaxInt
	}
	segments, err := t.segments(ctx, document, stop)
	if err != nil || len(segments) == 0 {
		return Span{}, err
	}
	first, last := 0, len(segments)-1
	if opts.Truncation == TruncateLeft {
		first = last
		for tokens := segments[last].tokens; first > 0 && tokens < room; tokens += segments[first].tokens {
			first--
		}
	}
	return Span{segments[first].Start, segments[last].End}, nil
}

// fits reports whether a text of at most room bytes has at most room tokens. For
// WordPiece a token is at least a byte. The other kinds put spaces before words, and
// some normalizers make many characters of one.
func (t *tokenizer) fits(ctx context.Context, text string, room int) (bool, error) {
	if len(text) > room || t.cuts.file == nil {
		return len(text) <= room, nil
	}
	e, err := t.encodeUntil(ctx, text, room)
	return err == nil && e.total <= room, err
}

// segments lists the segments of a text. It stops after the segment with which they
// have more than most tokens.
func (t *tokenizer) segments(ctx context.Context, text string, most int) ([]segment, error) {
	var out []segment
	for from, total := 0, 0; from < len(text) && total <= most; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to := t.cuts.after(text, from)
		tokens, err := t.encode(text[from:to])
		if err != nil {
			return nil, err
		}
		out = append(out, segment{Span{from, to}, tokens.total})
		from, total = to, total+tokens.total
	}
	return out, nil
}

// slide joins neighbouring segments into passages of at most room tokens. Each
// passage shares up to overlap tokens with the one before it, and ends after it. A
// segment of more than room tokens is one passage, which will be truncated.
func slide(segments []segment, room, overlap int) []Span {
	var out []Span
	for from := 0; ; {
		to, tokens := from+1, segments[from].tokens
		for to < len(segments) && tokens+segments[to].tokens <= room {
			tokens += segments[to].tokens
			to++
		}
		out = append(out, Span{segments[from].Start, segments[to-1].End})
		if to == len(segments) {
			return out
		}
		next, shared := to, 0
		most := min(overlap, room-segments[to].tokens)
		for next-1 > from && shared+segments[next-1].tokens <= most {
			next--
			shared += segments[next].tokens
		}
		from = next
	}
}

func countTokens(segments []segment) int {
	total := 0
	for _, s := range segments {
		total += s.tokens
	}
	return total
}
