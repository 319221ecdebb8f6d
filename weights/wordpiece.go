package weights

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A wordPiece is the model that splits words into tokens of a vocabulary.
type wordPiece struct {
	prefix   string // of a token that continues a word
	maxChars int    // a longer word is unknown
	vocab    []byte // a JSON object in one spelling: no white space
	tokens   int    // in vocab
	taken    []bool // by id

	// wanted holds the ids of the tokens that are named outside of vocab, -1
	// for those that it lacks.
	wanted map[string]int
}

// MaxWordChars returns how many characters a word may have; a longer one is
// unknown.
func (t *Tokenizer) MaxWordChars() int { return t.model.maxChars }

// checkModelType checks that the model is of a supported type.
func checkModelType(raw jsontext.Value) error {
	if isNull(raw) {
		return errors.New("missing")
	}
	fields, err := splitFields(raw, trusted)
	if err != nil {
		return err
	}
	if kind := modelType(fields); kind != "WordPiece" {
		return fmt.Errorf("type %s is not supported, expected \"WordPiece\"", orNone(kind))
	}
	return nil
}

// modelType is the type that a model names. Files of tokenizers before 0.9 name
// none: it shows by the other fields.
func modelType(fields map[string]jsontext.Value) string {
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

func (t *Tokenizer) parseWordPiece(raw jsontext.Value, vocabSize int) error {
	fields, err := splitFields(raw, trusted)
	if err != nil {
		return err
	}
	var unknown, prefix *string
	var maxChars *int
	for _, f := range []struct {
		name string
		to   any
	}{
		{"unk_token", &unknown}, {"continuing_subword_prefix", &prefix}, {"max_input_chars_per_word", &maxChars},
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
			return fmt.Errorf("field %.40q is not known and may change token ids", name)
		}
	}
	if *maxChars < 0 || *maxChars > maxWordChars {
		return fmt.Errorf("max_input_chars_per_word is %d, expected 0 to %d", *maxChars, maxWordChars)
	}
	if err := checkToken(*unknown); err != nil {
		return fmt.Errorf("unk_token: %w", err)
	}
	if *prefix != "" {
		if err := checkToken(*prefix); err != nil {
			return fmt.Errorf("continuing_subword_prefix: %w", err)
		}
	}
	t.Unknown = *unknown
	t.model = wordPiece{prefix: *prefix, maxChars: *maxChars, wanted: t.named()}
	if err := t.model.parseVocab(fields["vocab"], vocabSize); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	return nil
}

// named holds the tokens that are named outside the vocabulary.
func (t *Tokenizer) named() map[string]int {
	names := map[string]int{t.Unknown: -1}
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

// parseVocab checks a vocabulary, whose text is valid JSON without a key that
// occurs twice, and writes it in one spelling.
func (w *wordPiece) parseVocab(raw jsontext.Value, vocabSize int) error {
	if raw.Kind() != '{' {
		return fmt.Errorf("found %s, expected an object of token ids", kindName(raw.Kind()))
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), trusted)
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	w.vocab = append(make([]byte, 0, len(raw)), '{')
	w.taken = make([]bool, vocabSize)
	var token []byte
	for dec.PeekKind() != '}' {
		name, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if token, err = jsontext.AppendUnquote(token[:0], name); err != nil {
			return err
		}
		id, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := w.add(token, id); err != nil {
			return err
		}
	}
	if w.tokens == 0 {
		return errors.New("it is empty")
	}
	w.vocab[len(w.vocab)-1] = '}' // for the last comma
	return nil
}

// add adds a token with the id that raw spells.
func (w *wordPiece) add(token []byte, raw jsontext.Value) error {
	if len(token) > 0 { // an empty one occurs, and never matches
		if err := checkToken(token); err != nil {
			return err
		}
	}
	id, err := strconv.Atoi(string(raw))
	if err != nil || id < 0 || id > maxTokenID {
		return fmt.Errorf("token %q has the token id %.40s, expected a whole number of 0 to %d", token, raw, maxTokenID)
	}
	if id >= len(w.taken) {
		return fmt.Errorf("token %q has the token id %d, expected less than the vocab_size %d of %s", token, id, len(w.taken), configFile)
	}
	if w.taken[id] {
		return fmt.Errorf("token %q has the token id %d, which another token has", token, id)
	}
	w.taken[id] = true
	w.tokens++
	if _, ok := w.wanted[string(token)]; ok {
		w.wanted[string(token)] = id
	}
	if w.vocab, err = jsontext.AppendQuote(w.vocab, token); err != nil {
		return err
	}
	w.vocab = append(w.vocab, ':')
	w.vocab = strconv.AppendInt(w.vocab, int64(id), 10)
	w.vocab = append(w.vocab, ',')
	return nil
}

// has reports whether a token of the vocabulary has an id.
func (w *wordPiece) has(id int) bool { return id < len(w.taken) && w.taken[id] }

// write writes the model as the tokenizer library reads it.
func (w *wordPiece) write(b *bytes.Buffer, unknown string) {
	fmt.Fprintf(b, `{"type":"WordPiece","unk_token":%s,"continuing_subword_prefix":%s,"max_input_chars_per_word":%d,"vocab":`,
		quote(unknown), quote(w.prefix), w.maxChars)
	b.Write(w.vocab)
	b.WriteByte('}')
}
