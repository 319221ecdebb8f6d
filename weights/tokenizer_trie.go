package weights

import (
	"bytes"
	"cmp"
	"slices"
)

// A trie holds the pieces of a Unigram vocabulary as a tree of their bytes. The
// children of a node are neighbours, in the order of their bytes.
type trie struct {
	label []byte   // the byte that leads to a node; node 0 is the root
	child []uint32 // the first child of a node; the next node's first child ends the list
	id    []int32  // of the piece that ends at a node, -1 if none does
}

// A pieceList holds pieces end to end.
type pieceList struct {
	text []byte
	ends []uint32
}

func (p *pieceList) add(piece []byte) {
	p.text = append(p.text, piece...)
	p.ends = append(p.ends, uint32(len(p.text)))
}

func (p *pieceList) get(id int) []byte {
	start := uint32(0)
	if id > 0 {
		start = p.ends[id-1]
	}
	return p.text[start:p.ends[id]]
}

// newTrie makes the tree of pieces, level by level.
func newTrie(pieces *pieceList) trie {
	sorted := make([]int32, len(pieces.ends))
	for i := range sorted {
		sorted[i] = int32(i)
	}
	slices.SortFunc(sorted, func(a, b int32) int { return bytes.Compare(pieces.get(int(a)), pieces.get(int(b))) })
	size := len(pieces.text) + 1 // nodes at most
	t := trie{label: make([]byte, 1, size), child: make([]uint32, 0, size+1), id: make([]int32, 1, size)}
	t.id[0] = -1
	type span struct{ from, to int } // of sorted: the pieces below a node
	level := []span{{0, len(sorted)}}
	for depth, node := 0, 0; len(level) > 0; depth++ {
		var next []span
		for _, s := range level {
			t.child = append(t.child, uint32(len(t.label)))
			if s.from < s.to && len(pieces.get(int(sorted[s.from]))) == depth {
				t.id[node] = sorted[s.from]
				s.from++
			}
			node++
			for from := s.from; from < s.to; {
				label := pieces.get(int(sorted[from]))[depth]
				to := from + 1
				for to < s.to && pieces.get(int(sorted[to]))[depth] == label {
					to++
				}
				t.label, t.id = append(t.label, label), append(t.id, -1)
				next = append(next, span{from, to})
				from = to
			}
		}
		level = next
	}
	t.child = append(t.child, uint32(len(t.label)))
	return t
}

// step returns the child of a node for a byte, 0 if there is none.
func (t *trie) step(node uint32, label byte) uint32 {
	from, to := t.child[node], t.child[node+1]
	if i, ok := slices.BinarySearchFunc(t.label[from:to], label, cmp.Compare[byte]); ok {
		return from + uint32(i)
	}
	return 0
}

// find returns the id of a piece, -1 if there is none.
func (t *trie) find(piece string) int32 {
	node := uint32(0)
	for i := range len(piece) {
		if node = t.step(node, piece[i]); node == 0 {
			return -1
		}
	}
	return t.id[node]
}
