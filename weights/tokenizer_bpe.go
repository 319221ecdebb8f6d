package weights

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// A bpe holds a BPE model, which joins the bytes of a word to tokens, pair by pair in
// the order of its merges.
type bpe struct {
	vocabulary
	merges       []byte // a JSON array of pairs in canonical form, without white space
	ignoreMerges bool   // a word that is a token needs no merges
	fuseUnknown  bool   // unknown characters that are neighbours become one token
	hasUnknown   bool   // without, an unknown character becomes nothing
}

// parseBPE parses a byte-level BPE model.
func (t *Tokenizer) parseBPE(fields object, vocabSize int, names []string) error {
	m := bpe{}
	var dropout float64
	var fallback bool
	var prefix, suffix string
	for _, f := range []struct {
		name string
		to   any
	}{
		{"unk_token", &t.Unknown}, {"ignore_merges", &m.ignoreMerges}, {"fuse_unk", &m.fuseUnknown},
		{"dropout", &dropout}, {"byte_fallback", &fallback}, {"continuing_subword_prefix", &prefix}, {"end_of_word_suffix", &suffix},
	} {
		if isNull(fields[f.name]) {
			continue
		}
		if err := decode(fields[f.name], f.to); err != nil {
			return fmt.Errorf("field %q: %w", f.name, err)
		}
	}
	m.hasUnknown = !isNull(fields["unk_token"])
	if err := checkFields(fields, "type", "unk_token", "ignore_merges", "fuse_unk", "dropout", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "vocab", "merges"); err != nil {
		return err
	}
	switch {
	case dropout != 0:
		return fmt.Errorf("dropout is %v, which makes token ids random, expected null", dropout)
	case fallback:
		return errors.New("byte_fallback is not supported, expected the bytes of ByteLevel")
	case prefix != "" || suffix != "":
		return fmt.Errorf("continuing_subword_prefix %.40q and end_of_word_suffix %.40q are not supported, expected none", prefix, suffix)
	}
	if m.hasUnknown {
		if err := checkToken(t.Unknown); err != nil {
			return fmt.Errorf("unk_token: %w", err)
		}
	}
	m.vocabulary = newVocabulary(t.named(names), vocabSize)
	if err := m.parse(fields["vocab"]); err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	if err := m.parseMerges(fields["merges"]); err != nil {
		return fmt.Errorf("merges: %w", err)
	}
	m.seen = nil
	t.model = &m
	return nil
}

// parseMerges checks a list of merges, whose text is valid JSON, and converts it to
// canonical form. A merge is ["a", "b"], or "a b" as before tokenizers 0.20.
func (m *bpe) parseMerges(raw []byte) error {
	if kind := jsontext.Value(raw).Kind(); kind != '[' {
		return fmt.Errorf("found %s, expected an array of pairs of tokens", kindName(kind))
	}
	m.merges = append(make([]byte, 0, len(raw)+len(raw)/2+16), '[')
	first := raw[skipSpace(raw, 1)]
	for i, n := skipSpace(raw, 1), 0; raw[i] != ']'; i, n = skipSpace(raw, i), n+1 {
		a, b, size, err := cutMerge(raw[i:])
		if err == nil && size == 0 || raw[i] != first { // the library reads one form only
			err = fmt.Errorf("found %.80s, expected [\"token\", \"token\"]", raw[i:])
		}
		if err == nil {
			err = m.addMerge(a, b)
		}
		if err != nil {
			return fmt.Errorf("merge %d: %w", n, err)
		}
		if i = skipSpace(raw, i+size); raw[i] == ',' {
			i++
		}
	}
	if m.merges[len(m.merges)-1] == ',' {
		m.merges = m.merges[:len(m.merges)-1]
	}
	m.merges = append(m.merges, ']')
	return nil
}

// cutMerge returns the tokens of the merge at the start of text, and its size, which
// is 0 if it has another form.
func cutMerge(text []byte) (a, b []byte, size int, err error) {
	if text[0] == '"' {
		size = stringLength(text)
		both, _, err := plainString(text[:size])
		a, b, ok := bytes.Cut(both, []byte(" "))
		if err == nil && (!ok || bytes.Contains(b, []byte(" "))) {
			err = fmt.Errorf("%.80q is not two tokens with a space between them", both)
		}
		return a, b, size, err
	}
	if text[0] != '[' {
		return nil, nil, 0, nil
	}
	var both [2][]byte
	i := 0
	for n := range both {
		if i = skipSpace(text, i+1); text[i] != '"' {
			return nil, nil, 0, nil
		}
		length := stringLength(text[i:])
		if both[n], _, err = plainString(text[i : i+length]); err != nil {
			return nil, nil, 0, err
		}
		if i = skipSpace(text, i+length); text[i] != ",]"[n] {
			return nil, nil, 0, nil
		}
	}
	return both[0], both[1], i + 1, nil
}

// addMerge adds the merge of the tokens a and b, whose result must be a token too.
func (m *bpe) addMerge(a, b []byte) error {
	joined := append(append(make([]byte, 0, 64), a...), b...)
	for _, token := range [][]byte{a, b, joined} {
		if len(token) == 0 || !m.seen.has(token) {
			return fmt.Errorf("of %.40q and %.40q: %.80q is not in the vocabulary", a, b, token)
		}
	}
	m.merges = append(m.merges, '[')
	m.merges = append(append(m.merges, quote(string(a))...), ',')
	m.merges = append(append(m.merges, quote(string(b))...), ']', ',')
	return nil
}

func (m *bpe) size() int { return len(m.text) + len(m.merges) }

// write writes the model in the format of the tokenizer library.
func (m *bpe) write(b *bytes.Buffer, unknown string) {
	token := []byte("null")
	if m.hasUnknown {
		token = quote(unknown)
	}
	fmt.Fprintf(b, `{"type":"BPE","dropout":null,"unk_token":%s,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":%t,"byte_fallback":false,"ignore_merges":%t,"vocab":`,
		token, m.fuseUnknown, m.ignoreMerges)
	b.Write(m.text)
	b.WriteString(`,"merges":`)
	b.Write(m.merges)
	b.WriteByte('}')
}
