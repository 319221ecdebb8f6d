package weights

import (
	"bytes"
	"fmt"
	"slices"
)

// A wordPiece holds a WordPiece model, which splits words into tokens.
type wordPiece struct {
	vocabulary
	prefix   string // marks a token that continues a word
	maxChars int    // a longer word becomes the unknown token
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
	w.vocabulary = newVocabulary(t.named(names), vocabSize)
	if err := w.parse(fields["vocab"]); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	w.seen = nil
	t.model = &w
	return nil
}

// write writes the model in the format of the tokenizer library.
func (w *wordPiece) write(b *bytes.Buffer, unknown string) {
	fmt.Fprintf(b, `{"type":"WordPiece","unk_token":%s,"continuing_subword_prefix":%s,"max_input_chars_per_word":%d,"vocab":`,
		quote(unknown), quote(w.prefix), w.maxChars)
	b.Write(w.text)
	b.WriteByte('}')
}
