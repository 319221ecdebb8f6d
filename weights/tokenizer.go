package weights

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	tokenizerFile = "tokenizer.json"
	maxTokenizer  = 64 << 20 // bytes
)

// A Tokenizer is how ids are made of texts. Every value has been checked.
// ParseTokenizer returns what tokenizer.json says of it, Model has what
// AutoTokenizer of transformers makes of that with the files beside it.
type Tokenizer struct {
	Normalizer Normalizer

	// Single and Pair frame one text and two. They are nil if tokenizer.json
	// has no post-processor.
	Single, Pair []Piece

	// TruncationSide is the end at which long texts are cut: that of
	// tokenizer_config.json, else of tokenizer.json, "" if neither says.
	TruncationSide Side

	// AddedTokens are found in a text before it is split into words.
	AddedTokens []AddedToken

	// Unknown is the token that stands for a word outside the vocabulary.
	Unknown   string
	UnknownID int

	model wordPiece
}

// A Normalizer holds the switches of a BertNormalizer.
type Normalizer struct {
	CleanText          bool
	HandleChineseChars bool
	StripAccents       *bool // nil: as Lowercase
	Lowercase          bool
}

// A Piece of a template is a special token or the place of a text.
type Piece struct {
	Sequence Sequence // "" for a special token
	Token    string   // of a special token
	ID       int      // of a special token
	TypeID   int
}

// A Sequence names one of the texts that a template frames.
type Sequence string

// The texts of a template.
const (
	SequenceA Sequence = "A"
	SequenceB Sequence = "B"
)

// A Side is an end of a text.
type Side string

// The ends of a text.
const (
	Left  Side = "left"
	Right Side = "right"
)

// An AddedToken is a spelling that always is one token.
type AddedToken struct {
	ID         int
	Content    string
	SingleWord bool // not within a word
	LStrip     bool // together with the white space on its left
	RStrip     bool
	Normalized bool // looked for in the normalized text
	Special    bool

	// Beyond says that the model's word embeddings have no row for ID: a text
	// with this token cannot be scored.
	Beyond bool
}

// ParseTokenizer parses and checks tokenizer.json, for a model whose word
// embeddings have vocabSize rows.
func ParseTokenizer(data []byte, vocabSize int) (Tokenizer, error) {
	return parseTokenizer(data, vocabSize, nil)
}

// parseTokenizer is ParseTokenizer for a tokenizer to which tokens of the names
// given are going to be added.
func parseTokenizer(data []byte, vocabSize int, names []string) (Tokenizer, error) {
	fields, model, err := splitTokenizer(data)
	if err != nil {
		return Tokenizer{}, err
	}
	// What else is unknown follows from the model's type.
	if kind := modelType(model); kind != "WordPiece" {
		return Tokenizer{}, fmt.Errorf("model: type %s is not supported, expected \"WordPiece\"", orNone(kind))
	}
	var t Tokenizer
	for _, step := range []struct {
		name  string
		parse func(jsontext.Value) error
	}{
		{"version", checkVersion},
		{"truncation", t.parseTruncation},
		{"padding", checkObject},
		{"decoder", checkObject},
		{"normalizer", t.parseNormalizer},
		{"pre_tokenizer", checkPreTokenizer},
		{"added_tokens", t.parseAddedTokens},
		{"post_processor", t.parsePostProcessor},
	} {
		if err := step.parse(fields[step.name]); err != nil {
			return Tokenizer{}, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if err := t.parseWordPiece(model, vocabSize, names); err != nil {
		return Tokenizer{}, fmt.Errorf("model: %w", err)
	}
	return t, t.checkIDs(vocabSize)
}

// loadTokenizer reads the tokenizer's files and derives the maximum length.
func (m *Model) loadTokenizer(cfg modelConfig, sentence sentenceSettings) error {
	path := filepath.Join(m.Dir, tokenizerFile)
	data, err := readSmall(path, maxTokenizer)
	if err != nil {
		return missingFile(path, err, "every model directory needs one (in Python, AutoTokenizer.from_pretrained(dir).save_pretrained(dir) writes it)")
	}
	settings, err := m.readTokenizerSettings(cfg.tokenizerClass, sentence)
	if err != nil {
		return err
	}
	if m.Tokenizer, err = parseTokenizer(data, cfg.VocabSize, settings.names()); err == nil {
		err = settings.apply(&m.Tokenizer, cfg.VocabSize)
	}
	if err == nil {
		err = m.Tokenizer.checkFrame(cfg.TypeVocabSize)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if sentence.lowercase {
		m.Tokenizer.Normalizer.lowerFirst()
	}
	m.Prompt = sentence.prompt
	m.MaxLength, m.MaxLengthFile = cfg.MaxPositions, configFile
	length, file := settings.maxLength, tokenizerConfigFile
	if sentence.maxLength > 0 {
		length, file = sentence.maxLength, sentence.lengthFile
	}
	if m.Ref != Builtin && length > 0 && length < m.MaxLength {
		m.MaxLength, m.MaxLengthFile = length, file
	}
	if least := len(m.Tokenizer.Pair) - 2; m.MaxLength < least {
		return fmt.Errorf("%s: a maximum length of %d tokens (the lesser of model_max_length and max_position_embeddings) holds no pair, whose special tokens are %d", m.Dir, m.MaxLength, least)
	}
	return nil
}

// lowerFirst lower-cases texts ahead of the normalizer's own steps, as
// do_lower_case of sentence_bert_config.json has it. The golden's maker checks
// for every character that this comes to the normalizer's own lower-casing.
func (n *Normalizer) lowerFirst() {
	strip := valueOr(n.StripAccents, n.Lowercase)
	n.Lowercase, n.StripAccents = true, &strip
}

// HasID reports whether a token has an id.
func (t *Tokenizer) HasID(id int) bool {
	return t.model.has(id) || slices.ContainsFunc(t.AddedTokens, func(a AddedToken) bool { return a.ID == id })
}

// JSON returns a tokenizer.json for the tokenizer library. It holds nothing but
// what Tokenizer says, so that no byte of a model's file reaches the library
// unchecked. Its post-processor puts one token of id 0 at either end of a text,
// whatever Single says: by them a caller tells an empty text from a failure.
func (t *Tokenizer) JSON() []byte {
	var b bytes.Buffer
	b.Grow(len(t.model.vocab) + 256*len(t.AddedTokens) + 1024)
	b.WriteString(`{"version":"1.0","truncation":null,"padding":null,"added_tokens":[`)
	for i, a := range t.AddedTokens {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"content":%s,"single_word":%t,"lstrip":%t,"rstrip":%t,"normalized":%t,"special":%t}`,
			a.ID, quote(a.Content), a.SingleWord, a.LStrip, a.RStrip, a.Normalized, a.Special)
	}
	strip := "null"
	if s := t.Normalizer.StripAccents; s != nil {
		strip = fmt.Sprint(*s)
	}
	fmt.Fprintf(&b, `],"normalizer":{"type":"BertNormalizer","clean_text":%t,"handle_chinese_chars":%t,"strip_accents":%s,"lowercase":%t},`,
		t.Normalizer.CleanText, t.Normalizer.HandleChineseChars, strip, t.Normalizer.Lowercase)
	b.WriteString(`"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":{"type":"BertProcessing","sep":["",0],"cls":["",0]},"decoder":null,"model":`)
	t.model.write(&b, t.Unknown)
	b.WriteByte('}')
	return b.Bytes()
}

// MaxWordChars returns how many characters a word may have; a longer one is
// unknown.
func (t *Tokenizer) MaxWordChars() int { return t.model.maxChars }
