package engine

import (
	"slices"

	"github.com/mlxrank/mlxrank/weights"
)

// Tokens hold what the model computes for a pair.
type Tokens struct {
	IDs       []int32
	TypeIDs   []int32 // as the model's template has them: for BERT 0 to the first [SEP], and 1 after it
	Truncated bool
}

// A frame puts special tokens around the texts of a pair, as the model's
// post-processor does, such as [CLS] query [SEP] document [SEP].
type frame struct {
	pieces  []weights.Piece
	special int // number of special tokens
}

func newFrame(pieces []weights.Piece) frame {
	f := frame{pieces: pieces}
	for _, p := range pieces {
		if p.Sequence == "" {
			f.special++
		}
	}
	return f
}

// allows reports whether the frame has all these type ids, and ends with the last of
// them. The last one differs if a caller left all type ids at 0.
func (f frame) allows(types []int32) bool {
	if last := f.pieces[len(f.pieces)-1]; last.Sequence == "" && int(types[len(types)-1]) != last.TypeID {
		return false
	}
	return !slices.ContainsFunc(types, func(id int32) bool {
		return !slices.ContainsFunc(f.pieces, func(p weights.Piece) bool { return p.TypeID == int(id) })
	})
}

// join makes a pair of at most maxLength tokens; maxLength is at least f.special.
func (f frame) join(query, document encoded, maxLength int, side Truncation) Tokens {
	kq, kd := truncate(query.total, document.total, maxLength-f.special)
	n := kq + kd + f.special
	both := make([]int32, 0, 2*n)
	for _, p := range f.pieces {
		switch p.Sequence {
		case weights.SequenceA:
			both = append(both, query.kept(kq, side)...)
		case weights.SequenceB:
			both = append(both, document.kept(kd, side)...)
		default:
			both = append(both, int32(p.ID))
		}
	}
	for _, p := range f.pieces {
		length := 1
		switch p.Sequence {
		case weights.SequenceA:
			length = kq
		case weights.SequenceB:
			length = kd
		}
		for range length {
			both = append(both, int32(p.TypeID))
		}
	}
	return Tokens{IDs: both[:n:n], TypeIDs: both[n:], Truncated: kq < query.total || kd < document.total}
}

// An encoded text may be tokenised only in part: from its beginning, or with
// TruncateLeft from its end.
type encoded struct {
	ids   []int32 // the first tokens, with TruncateLeft the last, as many as fit into a pair
	total int     // tokens found so far, more than ids if some are not kept
	rest  string  // not tokenised yet, with a word before it that is tokenised in part
	word  part    // that part
}

// A part of a word at the start of a text is tokenised again with what follows.
type part struct{ bytes, tokens int }

func untokenised(text string) encoded { return encoded{rest: text} }

// whole reports whether the whole text is tokenised.
func (e encoded) whole() bool { return e.rest == "" }

// add returns e with the tokens of the next part, which ends at a cut of e.rest. It
// keeps at most n tokens.
func (e encoded) add(part []uint32, at cut, n int, side Truncation) encoded {
	out := e.upTo(at, len(part), side)
	part = part[e.word.tokens:]
	out.total = e.total + len(part)
	keep := min(len(part), n-len(e.ids))
	if side != TruncateLeft {
		out.ids = appendIDs(slices.Clip(e.ids), part[:keep]) // e may be in use elsewhere
		return out
	}
	out.ids = append(appendIDs(make([]int32, 0, keep+len(e.ids)), part[len(part)-keep:]), e.ids...)
	return out
}

// upTo returns what remains of e after a part with so many tokens.
func (e encoded) upTo(at cut, tokens int, side Truncation) encoded {
	switch {
	case side == TruncateLeft:
		return encoded{rest: e.rest[:at.at]}
	case at.inside:
		return encoded{rest: e.rest, word: part{at.at, tokens}}
	default:
		return encoded{rest: e.rest[at.at:]}
	}
}

func appendIDs(to []int32, ids []uint32) []int32 {
	for _, id := range ids {
		to = append(to, int32(id))
	}
	return to
}

// kept returns the n tokens that truncation leaves of a text.
func (e encoded) kept(n int, side Truncation) []int32 {
	if side == TruncateLeft {
		return e.ids[len(e.ids)-n:]
	}
	return e.ids[:n]
}

// first returns the text cut to its first n tokens.
func (e encoded) first(n int) encoded {
	if n >= e.total {
		return e
	}
	return encoded{ids: e.ids[:min(n, len(e.ids))], total: n}
}

// missing names the text of a pair whose next part must be tokenised.
type missing int

const (
	missesNothing missing = iota
	missesQuery
	missesDocument
)

// findMissing returns which text must be tokenised further before the pair can be
// joined. If documentTokens is not 0, only so many tokens of the document count.
// More than maxLength tokens of a text are enough, with one exception: if both texts
// have more and the room for them is odd, the longer text gets the odd token, so it
// must be known which is longer.
func (f frame) findMissing(query, document encoded, maxLength, documentTokens int) missing {
	enough := maxLength
	if documentTokens > 0 {
		enough = min(enough, documentTokens)
	}
	switch {
	case !query.whole() && query.total <= maxLength:
		return missesQuery
	case !document.whole() && document.total <= enough:
		return missesDocument
	case (maxLength-f.special)%2 == 0:
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

// truncate returns how many of a first text's n tokens and of a second text's m
// tokens fit into room. It counts as "longest first" of Hugging Face's tokenizers
// does: the longer text is cut until both are equally long, then both are. If room is
// odd, the longer text gets the last token, and the second text if both are equal.
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
