package engine

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

// kept is the n tokens that are left of a text.
func (e encoded) kept(n int, side Truncation) []int32 {
	switch {
	case side != TruncateLeft:
		return e.ids[:n]
	case e.total == len(e.ids):
		return e.ids[e.total-n:]
	}
	return e.last[len(e.last)-n:]
}

// first is the text cut to its first n tokens.
func (e encoded) first(n int) encoded {
	if n >= e.total {
		return e
	}
	return encoded{ids: e.ids[:min(n, len(e.ids))], total: n}
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
