package records

import (
	"fmt"
	"hash/maphash"
)

// An idCheck rejects an id with different texts in the lines of an input: a TREC run
// would merge such lines, or rank the documents of two queries as one. It keeps
// hashes instead of texts: 24 bytes and the overhead of a map for each query id and
// each pair of ids.
type idCheck struct {
	seed  maphash.Seed
	texts map[uint64]textHash // by the hash of a query id or of two ids
}

// A textHash is the hash of a text and its first line.
type textHash struct {
	hash uint64
	line int
}

func newIDCheck() *idCheck {
	return &idCheck{seed: maphash.MakeSeed(), texts: make(map[uint64]textHash)}
}

// check returns an error if an earlier record has a different text for an id.
func (c *idCheck) check(r *Record) error {
	if first := c.conflict(r.QueryID, r.Query, r.Line); first > 0 {
		return fmt.Errorf("query id %q has a different query in line %d; give each query its own id", Abridge([]byte(r.QueryID)), first)
	}
	if first := c.conflict(r.QueryID+" "+r.DocumentID, r.Document, r.Line); first > 0 {
		return fmt.Errorf("document id %q of query id %q has a different text in line %d; give each document its own id",
			Abridge([]byte(r.DocumentID)), Abridge([]byte(r.QueryID)), first)
	}
	return nil
}

// conflict returns the first line of key if its text differs, or else 0. The key of
// two ids has a space between them, which no id contains.
func (c *idCheck) conflict(key, text string, line int) int {
	id, hash := maphash.String(c.seed, key), maphash.String(c.seed, text)
	first, ok := c.texts[id]
	if !ok {
		c.texts[id] = textHash{hash, line}
	}
	if !ok || first.hash == hash {
		return 0
	}
	return first.line
}
