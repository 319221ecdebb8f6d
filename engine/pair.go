package engine

import "slices"

// minLength is [CLS], [SEP] and [SEP]: a pair with nothing between.
const minLength = 3

// Tokens are what the model sees of a pair.
type Tokens struct {
	IDs       []int32
	TypeIDs   []int32 // 0 up to and with the first [SEP], 1 behind it
	Truncated bool
}

// A special holds the ids that frame a pair.
type special struct{ cls, sep int32 }

// assemble makes [CLS] query [SEP] document [SEP] of at most maxLength tokens,
// which is at least minLength.
func assemble(query, document encoded, s special, maxLength int) Tokens {
	ids, second, truncated := join(query, document, s, maxLength, TruncateRight)
	return Tokens{IDs: ids, TypeIDs: typeIDs(nil, len(ids), second), Truncated: truncated}
}

// join makes a pair's ids; those from second on are the document's.
func join(query, document encoded, s special, maxLength int, side Truncation) (ids []int32, second int, truncated bool) {
	kq, kd := truncate(query.total, document.total, maxLength-minLength)
	ids = make([]int32, 0, kq+kd+minLength)
	ids = append(ids, s.cls)
	ids = append(ids, query.kept(kq, side)...)
	ids = append(ids, s.sep)
	ids = append(ids, document.kept(kd, side)...)
	ids = append(ids, s.sep)
	return ids, kq + 2, kq < query.total || kd < document.total
}

// An encoded text may be tokenised in part only: from its beginning, or from its
// end where TruncateLeft keeps that.
type encoded struct {
	ids   []int32 // as many as a pair can use, from where the tokenising began
	total int     // tokens so far, ids or not
	rest  string  // not tokenised
}

func untokenised(text string) encoded { return encoded{rest: text} }

// whole reports whether total is that of the whole text.
func (e encoded) whole() bool { return e.rest == "" }

// add adds the tokens of another part. At most n are kept.
func (e encoded) add(part []uint32, rest string, n int, side Truncation) encoded {
	out := encoded{total: e.total + len(part), rest: rest}
	keep := min(len(part), n-len(e.ids))
	if side != TruncateLeft {
		out.ids = appendIDs(slices.Clip(e.ids), part[:keep]) // others may have e
		return out
	}
	out.ids = append(appendIDs(make([]int32, 0, keep+len(e.ids)), part[len(part)-keep:]), e.ids...)
	return out
}

func appendIDs(to []int32, ids []uint32) []int32 {
	for _, id := range ids {
		to = append(to, int32(id))
	}
	return to
}

// kept is the n tokens that are left of a text.
func (e encoded) kept(n int, side Truncation) []int32 {
	if side == TruncateLeft {
		return e.ids[len(e.ids)-n:]
	}
	return e.ids[:n]
}

// first is the text cut to its first n tokens.
func (e encoded) first(n int) encoded {
	if n >= e.total {
		return e
	}
	return encoded{ids: e.ids[:min(n, len(e.ids))], total: n}
}

// A missing text is the one of a pair whose next part must be tokenised.
type missing int

const (
	missesNothing missing = iota
	missesQuery
	missesDocument
)

// findMissing says which text must be tokenised further to join the pair, of
// whose document the first documentTokens count, if that is not 0. More than
// maxLength tokens of either are enough, unless both have more and the room
// between the special tokens is odd: the odd token is the longer text's.
func findMissing(query, document encoded, maxLength, documentTokens int) missing {
	enough := maxLength
	if documentTokens > 0 {
		enough = min(enough, documentTokens)
	}
	switch {
	case !query.whole() && query.total <= maxLength:
		return missesQuery
	case !document.whole() && document.total <= enough:
		return missesDocument
	case (maxLength-minLength)%2 == 0:
		return missesNothing
	}
	if documentTokens > 0 {
		document = document.first(documentTokens)
	}
	switch {
	case !query.whole() && query.total <= document.total:
		return missesQuery
	case !document.whole() && document.total < query.total:
		return missesDocument
	}
	return missesNothing
}

// typeIDs appends a pair's: by place, since a text may spell [SEP] itself.
func typeIDs(to []int32, n, second int) []int32 {
	for i := range n {
		if i < second {
			to = append(to, 0)
		} else {
			to = append(to, 1)
		}
	}
	return to
}

// truncate gives how many tokens of a first text of n and a second of m fit
// into room, as "longest first" of Hugging Face's tokenizers counts them: the
// longer gives way until both are as long, then both do, and a token left over
// is the longer one's (the second's if they are as long).
func truncate(n, m, room int) (int, int) {
	if n+m <= room {
		return n, m
	}
	shorter := min(n, m)
	longer := max(shorter, room-shorter)
	if shorter+longer > room {
		shorter = room / 2
		longer = shorter + room%2
	}
	if n > m {
		return longer, shorter
	}
	return shorter, longer
}
