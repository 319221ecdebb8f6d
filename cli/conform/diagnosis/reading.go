package diagnosis

import (
	"strings"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/internal/lab"
)

// A reading is how a server makes tokens of a pair. The zero value is the model's own.
type reading struct {
	zeroTypes bool
	lastLayer bool // of the head only
	swapped   bool
	frame     frame
	prompt    prompt
	spelling  lab.Spelling
	lower     bool
	cut       cut
	limit     int  // tokens of a pair, where that is another than the model's maximum length; 0 for that
	keep      keep // part of a document that the server keeps
}

// A frame says where special tokens are.
type frame int

const (
	frameTemplate  frame = iota
	frameNoMiddle        // none between query and document
	frameTwoMiddle       // the one between them twice
	frameNoLast          // none after the document
	frameNone            // none at all
	frames
)

// A prompt is put before the texts.
type prompt struct {
	query, document string
	missing         bool // the model's own prompt is left out
}

// prompts are in common use.
var prompts = []prompt{
	{query: "query: "},
	{document: "passage: "},
	{query: "query: ", document: "passage: "},
	{query: "query: ", document: "document: "},
	{query: "Query: ", document: "Document: "},
	{query: "search_query: ", document: "search_document: "},
	{query: "Represent this sentence for searching relevant passages: "},
	{query: "Represent this query for searching relevant passages: "},
	{query: "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "},
}

// A cut is how a pair is made as short as the limit.
type cut int

const (
	cutOwn          cut = iota // as the model's files say
	cutRight                   // the longer text, at the end
	cutLeft                    // the longer text, at the beginning
	cutDocument                // the document only, at the end
	cutDocumentLeft            // the document only, at the beginning
	cutSlow                    // the longer text, token by token: the query gets an odd token
	cutBlind                   // the tokens of the pair, its last special token among them
	cuts
)

// A keep says how much of a document a server keeps: so many units from its start.
type keep struct {
	unit unit
	n    int
}

type unit int

const (
	whole unit = iota
	characters
	bytesOf
	words
	tokensOf
)

// keepText returns what is left of a document.
func (k keep) keepText(document string) string {
	switch k.unit {
	case characters:
		if utf8.RuneCountInString(document) > k.n {
			return string([]rune(document)[:k.n])
		}
	case bytesOf:
		if len(document) > k.n {
			return strings.ToValidUTF8(document[:k.n], "")
		}
	case words:
		if fields := strings.Fields(document); len(fields) > k.n {
			return strings.Join(fields[:k.n], " ")
		}
	}
	return document
}

// texts returns the texts of a pair whose tokens the reading joins.
func (r reading) texts(p Pair, own string) (query, document string) {
	query, document = p.Query, r.keep.keepText(p.Document)
	if r.swapped {
		query, document = document, query
	}
	if !r.prompt.missing {
		query = own + query
	}
	query, document = r.prompt.query+query, r.prompt.document+document
	if r.lower {
		query, document = strings.ToLower(query), strings.ToLower(document)
	}
	return query, document
}

// A joined pair is what a model computes; ids is nil if the reading cannot make it.
type joined struct{ ids, types []int32 }

// join makes a pair of the tokens of its texts, with at most maxLength tokens.
func (r reading) join(template []lab.Piece, query, document []int32, maxLength int) joined {
	if r.keep.unit == tokensOf && len(document) > r.keep.n {
		document = document[:r.keep.n]
	}
	if r.limit > 0 {
		maxLength = r.limit
	}
	pieces := r.frame.apply(template)
	special := len(pieces) - 2
	room := maxLength - special
	if len(query)+len(document) > room && r.cut != cutBlind {
		var ok bool
		if query, document, ok = r.cut.shorten(query, document, room); !ok {
			return joined{}
		}
	}
	var j joined
	for _, p := range pieces {
		ids := []int32{p.ID}
		switch {
		case p.Query:
			ids = query
		case p.Document:
			ids = document
		}
		j.ids = append(j.ids, ids...)
		for range ids {
			if r.zeroTypes {
				j.types = append(j.types, 0)
			} else {
				j.types = append(j.types, p.TypeID)
			}
		}
	}
	if len(j.ids) > maxLength { // blind
		j.ids, j.types = j.ids[:maxLength], j.types[:maxLength]
	}
	if len(j.ids) == 0 {
		return joined{}
	}
	return j
}

// apply returns the pieces of a pair in this frame.
func (f frame) apply(template []lab.Piece) []lab.Piece {
	var out []lab.Piece
	var middle []lab.Piece
	seenQuery, seenDocument := false, false
	for _, p := range template {
		between := seenQuery && !seenDocument && !p.Document && !p.Query
		seenQuery, seenDocument = seenQuery || p.Query, seenDocument || p.Document
		special := !p.Query && !p.Document
		switch {
		case special && f == frameNone, between && f == frameNoMiddle, special && seenDocument && f == frameNoLast:
			continue
		case between:
			middle = append(middle, p)
		case p.Document && f == frameTwoMiddle:
			out = append(out, middle...)
		}
		out = append(out, p)
	}
	return out
}

// shorten cuts two texts to room tokens; ok is false if the cut cannot.
func (c cut) shorten(query, document []int32, room int) (q, d []int32, ok bool) {
	kq, kd := len(query), min(len(document), room-len(query))
	switch c {
	case cutRight, cutLeft:
		kq, kd = longestFirst(len(query), len(document), room)
	case cutSlow:
		kq, kd = tokenByToken(len(query), len(document), room)
	}
	if kd < 0 || room < 0 {
		return nil, nil, false
	}
	if c == cutLeft || c == cutDocumentLeft {
		return query[len(query)-kq:], document[len(document)-kd:], true
	}
	return query[:kq], document[:kd], true
}

// longestFirst returns how many tokens of two texts fit into room, as Hugging Face's
// tokenizers in Rust count: the longer text has the odd token, the second if both are
// equally long.
func longestFirst(n, m, room int) (int, int) {
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

// tokenByToken counts as the tokenizers in Python do: they remove a token of the
// longer text until both fit, of the second if both are equally long.
func tokenByToken(n, m, room int) (int, int) {
	for n+m > room && n+m > 0 {
		if n > m {
			n--
		} else {
			m--
		}
	}
	return n, m
}

// parts counts in how many ways a reading differs from the model's own.
func (r reading) parts() int {
	n := 0
	for _, differs := range []bool{
		r.zeroTypes, r.lastLayer, r.swapped, r.frame != frameTemplate, r.prompt != prompt{}, r.spelling != lab.Spelling{},
		r.lower, r.cut != cutOwn, r.limit > 0, r.keep.unit != whole,
	} {
		if differs {
			n++
		}
	}
	return n
}
