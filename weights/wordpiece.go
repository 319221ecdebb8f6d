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

// A wordPiece holds a WordPiece model, which splits words into tokens.
type wordPiece struct {
	prefix   string // marks a token that continues a word
	maxChars int    // a longer word becomes the unknown token
	vocab    []byte // a JSON object in canonical form, without white space
	tokens   int    // in vocab
	taken    []bool // by id

	// wanted maps the tokens that are named outside of vocab to their ids, -1 if
	// vocab lacks them.
	wanted map[string]int
}

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

func (t *Tokenizer) parseWordPiece(fields object, vocabSize int, names []string) error {
	w := wordPiece{}
	for _, f := range []struct {
		name string
		to   any
	}{
		{"unk_token", &t.Unknown}, {"continuing_subword_prefix", &w.prefix}, {"max_input_chars_per_word", &w.maxChars},
	} {
		if isNull(fields[f.name]) {
			return fmt.Errorf("field %q is missing", f.name)
		}
		if err := decode(fields[f.name], f.to); err != nil {
			return fmt.Errorf("field %q: %w", f.name, err)
		}
	}
	for _, name := range sortedKeys(fields) {
		if !slices.Contains([]string{"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}, name) {
			return fmt.Errorf("unknown field %.40q; it may change token ids", name)
		}
	}
	if w.maxChars < 0 || w.maxChars > maxWordChars {
		return fmt.Errorf("max_input_chars_per_word is %d, expected 0 to %d", w.maxChars, maxWordChars)
	}
	if err := checkToken(t.Unknown); err != nil {
		return fmt.Errorf("unk_token: %w", err)
	}
	if w.prefix != "" {
		if err := checkToken(w.prefix); err != nil {
			return fmt.Errorf("continuing_subword_prefix: %w", err)
		}
	}
	w.wanted = t.named(names)
	if err := w.parseVocab(fields["vocab"], vocabSize); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	t.model = w
	return nil
}

// named returns the tokens that are named outside the vocabulary, in tokenizer.json
// or in more.
func (t *Tokenizer) named(more []string) map[string]int {
	names := map[string]int{t.Unknown: -1}
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

// parseVocab checks a vocabulary, whose text is valid JSON, and converts it to
// canonical form. It does not use the JSON library, which takes four times as
// long: the vocabulary is most of the text that is parsed at start.
func (w *wordPiece) parseVocab(raw []byte, vocabSize int) error {
	if kind := jsontext.Value(raw).Kind(); kind != '{' {
		return fmt.Errorf("found %s, expected an object of token ids", kindName(kind))
	}
	w.vocab = append(make([]byte, 0, len(raw)), '{')
	w.taken = make([]bool, vocabSize)
	seen := newTokenSet(len(raw) / 5) // a token takes at least five bytes
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
		if err := w.add(name, id, seen); err != nil {
			return err
		}
	}
	if w.tokens == 0 {
		return errors.New("it is empty")
	}
	w.vocab[len(w.vocab)-1] = '}' // replaces the last comma
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

// add adds a token: name is its JSON string, id its digits.
func (w *wordPiece) add(name, id []byte, seen *tokenSet) error {
	token := name[1 : len(name)-1]
	if bytes.IndexByte(token, '\\') >= 0 {
		var err error
		if token, err = jsontext.AppendUnquote(nil, name); err != nil {
			return err
		}
		name = quote(string(token))
	}
	if len(token) > 0 { // an empty token occurs in real files and never matches
		if err := checkToken(token); err != nil {
			return err
		}
	}
	if !seen.add(token) {
		return fmt.Errorf("key %q occurs twice", token)
	}
	n, err := strconv.Atoi(string(id))
	if err != nil || n > maxTokenID {
		return fmt.Errorf("token %q has the token id %.40s, expected at most %d", token, id, maxTokenID)
	}
	if n >= len(w.taken) {
		return fmt.Errorf("token %q has the token id %d, expected less than the vocab_size %d of %s", token, n, len(w.taken), configFile)
	}
	if w.taken[n] {
		return fmt.Errorf("token %q has the token id %d, which another token already has", token, n)
	}
	w.taken[n] = true
	w.tokens++
	if _, ok := w.wanted[string(token)]; ok {
		w.wanted[string(token)] = n
	}
	w.vocab = append(append(append(append(w.vocab, name...), ':'), id...), ',')
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

// has reports whether id belongs to a token of the vocabulary.
func (w *wordPiece) has(id int) bool { return id < len(w.taken) && w.taken[id] }

// write writes the model in the format of the tokenizer library.
func (w *wordPiece) write(b *bytes.Buffer, unknown string) {
	fmt.Fprintf(b, `{"type":"WordPiece","unk_token":%s,"continuing_subword_prefix":%s,"max_input_chars_per_word":%d,"vocab":`,
		quote(unknown), quote(w.prefix), w.maxChars)
	b.Write(w.vocab)
	b.WriteByte('}')
}
