package engine

import (
	"slices"

	"github.com/mlxrank/mlxrank/weights"
)

// minLength is what BERT's template takes: [CLS] and twice [SEP].
const minLength = 3

// Tokens are what the model sees of a pair.
type Tokens struct {
	IDs       []int32
	TypeIDs   []int32 // most often 0 up to and with the first [SEP], 1 behind it
	Truncated bool
}

// A frame puts the texts of a pair among special tokens, as the model's
// post-processor does: most often [CLS] query [SEP] document [SEP].
type frame struct {
	pieces  []weights.Piece
	special int // tokens that are not of the texts
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

// allows reports whether type ids are some that the frame has: the last one shows
// whether they were left at 0.
func (f frame) allows(types []int32) bool {
	if last := f.pieces[len(f.pieces)-1]; last.Sequence == "" && int(types[len(types)-1]) != last.TypeID {
		return false
	}
	return !slices.ContainsFunc(types, func(id int32) bool {
		return !slices.ContainsFunc(f.pieces, func(p weights.Piece) bool { return p.TypeID == int(id) })
	})
}

// join makes a pair of at most maxLength tokens, which is at least f.special.
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

// findMissing returns which text must be tokenised further to join the pair, of
// whose document the first documentTokens count, if that is not 0. More than
// maxLength tokens of either are enough, unless both have more and the room
// between the special tokens is odd: the odd token is the longer text's.
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
