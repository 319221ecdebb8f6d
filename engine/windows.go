package engine

import "context"

// A Span is a part of a text, in bytes: text[Start:End].
type Span struct{ Start, End int }

// overlapOf is how many tokens two windows of a document share: a quarter, so
// that an answer cut by the end of one is whole in the next.
func overlapOf(room int) int { return room / 4 }

// A segment is the smallest part of a text that windows are made of: what lies
// between two places where the text can be cut without changing its tokens.
type segment struct {
	Span
	tokens int
}

// windows cuts a document into overlapping parts that each fit with the query
// into the maximum length. A document that fits whole is one window.
func (t *tokenizer) windows(ctx context.Context, query encoded, document string) ([]Span, error) {
	whole := []Span{{0, len(document)}}
	budget := t.maxLength - t.frame.special
	// A query of more than half the budget gives way down to that half, as it
	// does when a pair is truncated.
	room := max(budget-query.total, budget/2)
	if len(document) <= room { // a token is at least a byte
		return whole, nil
	}
	segments, err := t.segments(ctx, document)
	if err != nil {
		return nil, err
	}
	if total := countTokens(segments); total <= room {
		return whole, nil
	}
	return slide(segments, room, overlapOf(room)), nil
}

func (t *tokenizer) segments(ctx context.Context, text string) ([]segment, error) {
	var out []segment
	for from := 0; from < len(text); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		to := t.cuts.after(text, from)
		tokens, err := t.encode(text[from:to])
		if err != nil {
			return nil, err
		}
		out = append(out, segment{Span{from, to}, tokens.total})
		from = to
	}
	return out, nil
}

// slide makes windows of at most room tokens of neighbouring segments, each
// beginning up to overlap tokens before the end of the one ahead and reaching
// beyond it. A segment of more than room tokens is a window of its own, to be
// truncated.
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
