package weights

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A TokenizerKind names the algorithm that splits words into tokens.
type TokenizerKind string

// The supported algorithms.
const (
	WordPiece TokenizerKind = "WordPiece" // of BERT
	Unigram   TokenizerKind = "Unigram"   // of SentencePiece
	BPE       TokenizerKind = "BPE"       // byte pair encoding, of the bytes of a text
)

// A tokenModel splits words into tokens.
type tokenModel interface {
	words() *vocabulary
	size() int                             // bytes that write writes, about
	write(b *bytes.Buffer, unknown string) // in the format of the tokenizer library
}

// A vocabulary holds the tokens of a model.
type vocabulary struct {
	text   []byte // JSON in canonical form, without white space
	tokens int    // in text
	taken  []bool // by id
	seen   *tokenSet

	// wanted maps the tokens that are named outside of the vocabulary to their ids,
	// -1 if the vocabulary lacks them.
	wanted map[string]int
}

// newVocabulary returns an empty vocabulary for word embeddings of size rows.
func newVocabulary(wanted map[string]int, size int) vocabulary {
	return vocabulary{taken: make([]bool, size), wanted: wanted}
}

func (v *vocabulary) words() *vocabulary { return v }

func (v *vocabulary) size() int { return len(v.text) }

// modelType returns the type of a model. tokenizers before 0.9 did not write it;
// then modelType derives it from the other fields.
func modelType(fields object) string {
	if raw, ok := fields["type"]; ok {
		var kind string
		if decode(raw, &kind) != nil {
			return ""
		}
		return kind
	}
	switch {
	case fields["merges"] != nil:
		return "BPE"
	case fields["unk_id"] != nil || fields["vocab"].Kind() == '[':
		return "Unigram"
	case fields["max_input_chars_per_word"] != nil:
		return "WordPiece"
	case fields["vocab"] != nil:
		return "WordLevel"
	}
	return ""
}

// named returns the tokens that are named outside the vocabulary, in tokenizer.json
// or in more.
func (t *Tokenizer) named(more []string) map[string]int {
	names := map[string]int{}
	if t.Unknown != "" {
		names[t.Unknown] = -1
	}
	for _, name := range more {
		names[name] = -1
	}
	for _, a := range t.AddedTokens {
		names[a.Content] = -1
	}
	for _, p := range slices.Concat(t.Single, t.Pair) {
		if p.Sequence == "" {
			names[p.Token] = -1
		}
	}
	return names
}

// parse checks an object of token ids, whose text is valid JSON, and converts it to
// canonical form. It does not use the JSON library, which takes four times as
// long: the vocabulary is most of the text that is parsed at start.
func (v *vocabulary) parse(raw []byte) error {
	if kind := jsontext.Value(raw).Kind(); kind != '{' {
		return fmt.Errorf("found %s, expected an object of token ids", kindName(kind))
	}
	v.text = append(make([]byte, 0, len(raw)), '{')
	v.seen = newTokenSet(len(raw) / 5) // a token takes at least five bytes
	for i := skipSpace(raw, 1); raw[i] != '}'; i = skipSpace(raw, i) {
		name := raw[i : i+stringLength(raw[i:])]
		i = skipSpace(raw, i+len(name))
		i = skipSpace(raw, i+1) // the colon
		id := raw[i : i+digits(raw[i:])]
		i = skipSpace(raw, i+len(id))
		if len(id) == 0 || raw[i] != ',' && raw[i] != '}' {
			return fmt.Errorf("token %.80s: expected a token id, found %.40s", name, raw[i-len(id):])
		}
		if raw[i] == ',' {
			i++
		}
		if err := v.addWithID(name, id); err != nil {
			return err
		}
	}
	if v.tokens == 0 {
		return errors.New("it is empty")
	}
	v.text[len(v.text)-1] = '}' // replaces the last comma
	return nil
}

func skipSpace(text []byte, i int) int {
	for text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t' {
		i++
	}
	return i
}

// digits returns the number of digits at the start of text.
func digits(text []byte) int {
	n := 0
	for text[n] >= '0' && text[n] <= '9' {
		n++
	}
	return n
}

// stringLength returns the length of the JSON string at the start of text.
func stringLength(text []byte) int {
	i := 1
	for {
		i += bytes.IndexByte(text[i:], '"')
		slashes := 0
		for text[i-1-slashes] == '\\' {
			slashes++
		}
		i++
		if slashes%2 == 0 {
			return i
		}
	}
}

// addWithID adds a token: name is its JSON string, id its digits.
func (v *vocabulary) addWithID(name, id []byte) error {
	token, name, err := plainString(name)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(id))
	if err != nil || n > maxTokenID {
		return fmt.Errorf("token %q has the token id %.40s, expected at most %d", token, id, maxTokenID)
	}
	if err := v.add(token, n); err != nil {
		return err
	}
	v.text = append(append(append(append(v.text, name...), ':'), id...), ',')
	return nil
}

// plainString returns the value of a JSON string, and the string in canonical form.
func plainString(name []byte) (value, canonical []byte, err error) {
	value = name[1 : len(name)-1]
	if bytes.IndexByte(value, '\\') < 0 {
		return value, name, nil
	}
	if value, err = jsontext.AppendUnquote(nil, name); err != nil {
		return nil, nil, err
	}
	return value, quote(string(value)), nil
}

// add adds a token with an id.
func (v *vocabulary) add(token []byte, id int) error {
	if len(token) > 0 { // an empty token occurs in real files and never matches
		if err := checkToken(token); err != nil {
			return err
		}
	}
	if !v.seen.add(token) {
		return fmt.Errorf("key %q occurs twice", token)
	}
	if id >= len(v.taken) {
		return fmt.Errorf("token %q has the token id %d, expected less than the vocab_size %d of %s", token, id, len(v.taken), configFile)
	}
	if v.taken[id] {
		return fmt.Errorf("token %q has the token id %d, which another token already has", token, id)
	}
	v.taken[id] = true
	v.tokens++
	if _, ok := v.wanted[string(token)]; ok {
		v.wanted[string(token)] = id
	}
	return nil
}

// A tokenSet is a set of tokens. It stores 64-bit hashes with a random seed
// instead of the tokens. If the hashes of two tokens collide, a good file is
// rejected: about once in 10^10 loads.
type tokenSet struct {
	seed  maphash.Seed
	slots []uint64 // 0: free
}

func newTokenSet(size int) *tokenSet {
	n := 16
	for n < size+size/4 {
		n *= 2
	}
	return &tokenSet{seed: maphash.MakeSeed(), slots: make([]uint64, n)}
}

// add adds a token and reports whether it was new.
func (s *tokenSet) add(token []byte) bool {
	hash := max(1, maphash.Bytes(s.seed, token))
	mask := uint64(len(s.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case hash:
			return false
		case 0:
			s.slots[i] = hash
			return true
		}
	}
}

// has reports whether the set has a token.
func (s *tokenSet) has(token []byte) bool {
	hash := max(1, maphash.Bytes(s.seed, token))
	mask := uint64(len(s.slots) - 1)
	for i := hash & mask; s.slots[i] != 0; i = (i + 1) & mask {
		if s.slots[i] == hash {
			return true
		}
	}
	return false
}

// has reports whether id belongs to a token of the vocabulary.
func (v *vocabulary) has(id int) bool { return id < len(v.taken) && v.taken[id] }
