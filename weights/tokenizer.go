package weights

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

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
	Kind TokenizerKind

	// Normalizer belongs to WordPiece. Steps and Words belong to Unigram and BPE.
	Normalizer Normalizer
	Steps      []Step
	Words      Words

	// Single and Pair are the templates for one text and for two. They are nil if
	// tokenizer.json has no post-processor.
	Single, Pair []Piece

	// TruncationSide is the end at which long texts are cut, from
	// tokenizer_config.json or else tokenizer.json, "" if neither sets it.
	TruncationSide Side

	// AddedTokens are found in a text before it is split into words.
	AddedTokens []AddedToken

	// Unknown is the token for a word outside the vocabulary, "" if there is none.
	Unknown   string
	UnknownID int // -1 if there is none

	model tokenModel
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
	return parseTokenizer(data, vocabSize, tokenizerSettings{})
}

// parseTokenizer does what ParseTokenizer does. It also looks up the ids of the tokens
// that the settings will add, and reads numbers as the class of the settings does.
func parseTokenizer(data []byte, vocabSize int, settings tokenizerSettings) (Tokenizer, error) {
	fields, model, err := splitTokenizer(data)
	if err != nil {
		return Tokenizer{}, err
	}
	// First, because another type explains all other unknown fields.
	t := Tokenizer{Kind: TokenizerKind(modelType(model)), UnknownID: -1}
	if t.Kind != WordPiece && t.Kind != Unigram && t.Kind != BPE {
		return Tokenizer{}, fmt.Errorf("model: type %s is not supported, expected WordPiece, Unigram or BPE", orNone(string(t.Kind)))
	}
	normalizer, words := t.parseSteps, t.parseWords
	if t.Kind == WordPiece {
		normalizer, words = t.parseNormalizer, checkPreTokenizer
	}
	for _, step := range []struct {
		name  string
		parse func(jsontext.Value) error
	}{
		{"version", checkVersion},
		{"truncation", t.parseTruncation},
		{"padding", checkObject},
		{"decoder", checkObject},
		{"normalizer", normalizer},
		{"pre_tokenizer", words},
		{"added_tokens", t.parseAddedTokens},
		{"post_processor", t.parsePostProcessor},
	} {
		if err := step.parse(fields[step.name]); err != nil {
			return Tokenizer{}, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if err := t.parseModel(model, vocabSize, settings); err != nil {
		return Tokenizer{}, fmt.Errorf("model: %w", err)
	}
	return t, t.checkIDs(vocabSize)
}

func (t *Tokenizer) parseModel(fields object, vocabSize int, settings tokenizerSettings) error {
	switch t.Kind {
	case Unigram:
		return t.parseUnigram(fields, vocabSize, settings.names(), settings.class.rebuilds())
	case BPE:
		return t.parseBPE(fields, vocabSize, settings.names())
	default:
		return t.parseWordPiece(fields, vocabSize, settings.names())
	}
}

// loadTokenizer reads the tokenizer's files and sets the maximum length.
func (m *Model) loadTokenizer(cfg modelConfig, sentence sentenceSettings) error {
	settings, err := m.readTokenizer(cfg.tokenizerClass, cfg.VocabSize, sentence)
	if err != nil {
		return err
	}
	if err := m.Tokenizer.checkFrame(cfg.TypeVocabSize); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(m.Dir, tokenizerFile), err)
	}
	if sentence.lowercase {
		m.Tokenizer.lowerFirst()
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
	if least := m.Tokenizer.SpecialTokens(); m.MaxLength < least {
		return fmt.Errorf("%s: the maximum length, the lesser of model_max_length and max_position_embeddings, is %d tokens, expected at least %d for the special tokens of a pair", m.Dir, m.MaxLength, least)
	}
	return nil
}

// readTokenizer reads the tokenizer of a model with word embeddings of vocabSize rows.
func (m *Model) readTokenizer(class string, vocabSize int, sentence sentenceSettings) (settings tokenizerSettings, err error) {
	path := filepath.Join(m.Dir, tokenizerFile)
	data, err := readSmall(path, maxTokenizer)
	if err != nil {
		return settings, missingFile(path, err, "every model directory needs one; in Python, AutoTokenizer.from_pretrained(dir).save_pretrained(dir) writes it")
	}
	if settings, err = m.readTokenizerSettings(class, sentence); err != nil {
		return settings, err
	}
	if m.Tokenizer, err = parseTokenizer(data, vocabSize, settings); err == nil {
		err = settings.apply(&m.Tokenizer, vocabSize, m.warn)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return settings, err
}

// OpenTokenizer reads the tokenizer of a model directory as AutoTokenizer does, for
// word embeddings of vocabSize rows. It returns what it warns of too.
func OpenTokenizer(dir string, vocabSize int) (Tokenizer, []string, error) {
	m := Model{Dir: dir}
	config, err := m.readFields(configFile)
	if err != nil {
		return Tokenizer{}, nil, err
	}
	_, err = m.readTokenizer(unquote(config["tokenizer_class"]), vocabSize, sentenceSettings{})
	return m.Tokenizer, m.Warnings, err
}

// lowerFirst lower-cases texts before the other steps of the normalizer, as
// do_lower_case in sentence_bert_config.json does. The script that makes the
// golden checks for every character that the lower-casing of BERT's normalizer gives
// the same result.
func (t *Tokenizer) lowerFirst() {
	if t.Kind != WordPiece {
		t.Steps = append([]Step{{Kind: Lowercase}}, t.Steps...)
		return
	}
	n := &t.Normalizer
	strip := valueOr(n.StripAccents, n.Lowercase)
	n.Lowercase, n.StripAccents = true, &strip
}

// SpecialTokens returns the number of special tokens in the template of a pair.
func (t *Tokenizer) SpecialTokens() int {
	n := 0
	for _, p := range t.Pair {
		if p.Sequence == "" {
			n++
		}
	}
	return n
}

// HasID reports whether id belongs to a token.
func (t *Tokenizer) HasID(id int) bool {
	return t.model.words().has(id) || slices.ContainsFunc(t.AddedTokens, func(a AddedToken) bool { return a.ID == id })
}

// JSON returns a tokenizer.json for the tokenizer library. It is made from the
// checked values of t alone, so that no unchecked byte of a model's file reaches
// the library. Its post-processor ignores Single and adds a token with id 0 at
// each end of a text, so that a caller can tell an empty text from a failure. For
// Unigram and BPE it begins with a line break, so that the library reads escapes: see
// scripts/setup/tokenizers/src/guard.rs.
func (t *Tokenizer) JSON() []byte {
	var b bytes.Buffer
	b.Grow(t.model.size() + 256*len(t.AddedTokens) + 1024)
	if t.Kind != WordPiece {
		b.WriteByte('\n')
	}
	b.WriteString(`{"version":"1.0","truncation":null,"padding":null,"added_tokens":[`)
	unknown := t.Unknown
	if t.SplitsWords() {
		unknown = "word"
	}
	for i, a := range t.AddedTokens {
		if i > 0 {
			b.WriteByte(',')
		}
		if t.SplitsWords() {
			a.ID = i + 1
			for a.Content == unknown || strings.HasPrefix(a.Content, unknown) {
				unknown += " " // so that it is no added token
			}
		}
		fmt.Fprintf(&b, `{"id":%d,"content":%s,"single_word":%t,"lstrip":%t,"rstrip":%t,"normalized":%t,"special":%t}`,
			a.ID, quote(a.Content), a.SingleWord, a.LStrip, a.RStrip, a.Normalized, a.Special)
	}
	b.WriteString(`],"normalizer":`)
	t.writeNormalizer(&b)
	b.WriteString(`,"pre_tokenizer":`)
	t.writeWords(&b)
	b.WriteString(`,"post_processor":{"type":"BertProcessing","sep":["",0],"cls":["",0]},"decoder":null,"model":`)
	t.model.write(&b, unknown)
	b.WriteByte('}')
	return b.Bytes()
}

// MaxWordChars returns the maximum number of characters in a word, 0 if there is none.
// WordPiece makes Unknown of a longer word.
func (t *Tokenizer) MaxWordChars() int {
	if w, ok := t.model.(*wordPiece); ok {
		return w.maxChars
	}
	return 0
}
