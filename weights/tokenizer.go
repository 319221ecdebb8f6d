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

// A Tokenizer holds the checked settings that determine the token ids of a text.
// ParseTokenizer reads only tokenizer.json. Model.Tokenizer also applies the
// files beside it, as AutoTokenizer of transformers does.
type Tokenizer struct {
	Normalizer Normalizer

	// Single and Pair are the templates for one text and for two. They are nil if
	// tokenizer.json has no post-processor.
	Single, Pair []Piece

	// TruncationSide is the end at which long texts are cut, from
	// tokenizer_config.json or else tokenizer.json, "" if neither sets it.
	TruncationSide Side

	// AddedTokens are found in a text before it is split into words.
	AddedTokens []AddedToken

	// Unknown is the token for a word outside the vocabulary.
	Unknown   string
	UnknownID int

	model wordPiece
}

// A Normalizer holds the settings of a BertNormalizer.
type Normalizer struct {
	CleanText          bool
	HandleChineseChars bool
	StripAccents       *bool // nil: the value of Lowercase
	Lowercase          bool
}

// A Piece is an element of a template: a special token or a text.
type Piece struct {
	Sequence Sequence // "" for a special token
	Token    string   // the special token
	ID       int      // of the special token
	TypeID   int
}

// A Sequence names a text of a template.
type Sequence string

// The texts of a template.
const (
	SequenceA Sequence = "A"
	SequenceB Sequence = "B"
)

// A Side names an end of a text.
type Side string

// The ends of a text.
const (
	Left  Side = "left"
	Right Side = "right"
)

// An AddedToken is a string that always becomes one token.
type AddedToken struct {
	ID         int
	Content    string
	SingleWord bool // not matched inside a word
	LStrip     bool // matched with the white space on its left
	RStrip     bool // matched with the white space on its right
	Normalized bool // matched in the normalized text
	Special    bool

	// Beyond reports that the word embeddings have no row for ID. A text with this
	// token cannot be scored.
	Beyond bool
}

// ParseTokenizer parses and checks tokenizer.json for word embeddings of vocabSize
// rows.
func ParseTokenizer(data []byte, vocabSize int) (Tokenizer, error) {
	return parseTokenizer(data, vocabSize, nil)
}

// parseTokenizer does what ParseTokenizer does. It also looks up the ids of names,
// which are tokens that the caller will add.
func parseTokenizer(data []byte, vocabSize int, names []string) (Tokenizer, error) {
	fields, model, err := splitTokenizer(data)
	if err != nil {
		return Tokenizer{}, err
	}
	// First, because another type explains all other unknown fields.
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

// loadTokenizer reads the tokenizer's files and sets the maximum length.
func (m *Model) loadTokenizer(cfg modelConfig, sentence sentenceSettings) error {
	path := filepath.Join(m.Dir, tokenizerFile)
	data, err := readSmall(path, maxTokenizer)
	if err != nil {
		return missingFile(path, err, "every model directory needs one; in Python, AutoTokenizer.from_pretrained(dir).save_pretrained(dir) writes it")
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
		return fmt.Errorf("%s: the maximum length, the lesser of model_max_length and max_position_embeddings, is %d tokens, expected at least %d for the special tokens of a pair", m.Dir, m.MaxLength, least)
	}
	return nil
}

// lowerFirst lower-cases texts before the other steps of the normalizer, as
// do_lower_case in sentence_bert_config.json does. The script that makes the
// golden checks for every character that the normalizer's lower-casing gives the
// same result.
func (n *Normalizer) lowerFirst() {
	strip := valueOr(n.StripAccents, n.Lowercase)
	n.Lowercase, n.StripAccents = true, &strip
}

// HasID reports whether id belongs to a token.
func (t *Tokenizer) HasID(id int) bool {
	return t.model.has(id) || slices.ContainsFunc(t.AddedTokens, func(a AddedToken) bool { return a.ID == id })
}

// JSON returns a tokenizer.json for the tokenizer library. It is made from the
// checked values of t alone, so that no unchecked byte of a model's file reaches
// the library. Its post-processor ignores Single and adds a token with id 0 at
// each end of a text, so that a caller can tell an empty text from a failure.
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

// MaxWordChars returns the maximum number of characters in a word. A longer word
// becomes Unknown.
func (t *Tokenizer) MaxWordChars() int { return t.model.maxChars }
