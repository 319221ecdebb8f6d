package weights

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxNormalizers = 16       // of a normalizer
	metaspace      = "\u2581" // stands for a space in the pieces of SentencePiece
	manySpaces     = " {2,}"  // the regular expression that tokenizers of SentencePiece replace
)

// A Step is a step of the normalizer of a Unigram or BPE tokenizer.
type Step struct {
	Kind    StepKind
	Content string // of ReplaceSpaces: what stands for two spaces or more
	Left    bool   // of Strip
	Right   bool   // likewise

	charsmap *charsmap // of Precompiled
}

// A StepKind names what a step does, by its type in tokenizer.json.
type StepKind string

// The supported steps.
const (
	Precompiled   StepKind = "Precompiled" // replaces characters by a table
	NFC           StepKind = "NFC"
	NFKC          StepKind = "NFKC"
	Lowercase     StepKind = "Lowercase"
	Strip         StepKind = "Strip"   // removes white space at the ends
	ReplaceSpaces StepKind = "Replace" // replaces two spaces or more
)

// Words describes how a Unigram or BPE tokenizer splits a text into words.
type Words struct {
	AtSpaces    bool    // Unigram: white space separates words and is removed
	Prepend     Prepend // Unigram: which words get a Metaspace before them
	AtMetaspace bool    // Unigram: a word ends before a Metaspace
	PrefixSpace bool    // BPE: a text gets a space before it
}

// Prepend names the words that get a Metaspace before them, unless they begin with one.
type Prepend string

// The schemes of Metaspace.
const (
	PrependAlways Prepend = "always"
	PrependFirst  Prepend = "first" // only the word at the start of the text
	PrependNever  Prepend = "never"
)

// parseSteps parses the normalizer of a Unigram or BPE tokenizer.
func (t *Tokenizer) parseSteps(raw jsontext.Value) error {
	t.Steps = nil
	return t.addSteps(raw, 0)
}

func (t *Tokenizer) addSteps(raw jsontext.Value, depth int) error {
	if isNull(raw) {
		return nil
	}
	if kind := readType(raw); kind != "Sequence" {
		step, err := parseStep(StepKind(kind), raw)
		if err != nil {
			return err
		}
		t.Steps = append(t.Steps, step)
		if len(t.Steps) > maxNormalizers {
			return fmt.Errorf("more than %d normalizers", maxNormalizers)
		}
		return nil
	}
	var v struct {
		Type        string           `json:"type"`
		Normalizers []jsontext.Value `json:"normalizers"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	if depth > 2 {
		return errors.New("a Sequence of Sequences is more than 3 deep")
	}
	for i, value := range v.Normalizers {
		if err := t.addSteps(value, depth+1); err != nil {
			return fmt.Errorf("normalizer %d: %w", i, err)
		}
	}
	return nil
}

func parseStep(kind StepKind, raw jsontext.Value) (Step, error) {
	step := Step{Kind: kind}
	var v struct {
		Type    string            `json:"type"`
		Table   *string           `json:"precompiled_charsmap"`
		Left    *bool             `json:"strip_left"`
		Right   *bool             `json:"strip_right"`
		Pattern map[string]string `json:"pattern"`
		Content *string           `json:"content"`
	}
	switch kind {
	case Precompiled, NFC, NFKC, Lowercase, Strip, ReplaceSpaces:
	default:
		return step, fmt.Errorf("%s is not supported, expected Precompiled, NFC, NFKC, Lowercase, Strip, Replace or a Sequence of them", orNone(string(kind)))
	}
	if err := decode(raw, &v); err != nil {
		return step, err
	}
	var err error
	switch {
	case kind == Precompiled && v.Table == nil, kind == Strip && (v.Left == nil || v.Right == nil), kind == ReplaceSpaces && v.Content == nil:
		err = errors.New("a field is missing")
	case kind == Precompiled:
		if step.charsmap, err = parseCharsmap(*v.Table); err != nil {
			err = fmt.Errorf("precompiled_charsmap: %w", err)
		}
	case kind == Strip:
		step.Left, step.Right = *v.Left, *v.Right
	case kind == ReplaceSpaces:
		if step.Content = *v.Content; len(v.Pattern) != 1 || v.Pattern["Regex"] != manySpaces || step.Content != " " && step.Content != metaspace {
			err = fmt.Errorf("pattern %q and content %.40q are not supported, expected {\"Regex\": %q} and a space or %q", v.Pattern, step.Content, manySpaces, metaspace)
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", kind, err)
	}
	return step, err
}

// write writes a step in the format of the tokenizer library.
func (s Step) write(b *bytes.Buffer) {
	switch s.Kind {
	case Precompiled:
		fmt.Fprintf(b, `{"type":"Precompiled","precompiled_charsmap":"%s"}`, s.charsmap.base64)
	case Strip:
		fmt.Fprintf(b, `{"type":"Strip","strip_left":%t,"strip_right":%t}`, s.Left, s.Right)
	case ReplaceSpaces:
		fmt.Fprintf(b, `{"type":"Replace","pattern":{"Regex":"%s"},"content":%s}`, manySpaces, quote(s.Content))
	default:
		fmt.Fprintf(b, `{"type":"%s"}`, s.Kind)
	}
}

// writeNormalizer writes the normalizer in the format of the tokenizer library.
func (t *Tokenizer) writeNormalizer(b *bytes.Buffer) {
	switch {
	case t.Kind == WordPiece:
		t.Normalizer.write(b)
	case len(t.Steps) == 0:
		b.WriteString("null")
	default:
		b.WriteString(`{"type":"Sequence","normalizers":[`)
		for i, step := range t.Steps {
			if i > 0 {
				b.WriteByte(',')
			}
			step.write(b)
		}
		b.WriteString("]}")
	}
}

func (n Normalizer) write(b *bytes.Buffer) {
	strip := "null"
	if n.StripAccents != nil {
		strip = fmt.Sprint(*n.StripAccents)
	}
	fmt.Fprintf(b, `{"type":"BertNormalizer","clean_text":%t,"handle_chinese_chars":%t,"strip_accents":%s,"lowercase":%t}`,
		n.CleanText, n.HandleChineseChars, strip, n.Lowercase)
}

// parseWords parses the pre-tokenizer of a Unigram or BPE tokenizer.
func (t *Tokenizer) parseWords(raw jsontext.Value) error {
	if t.Kind == BPE {
		return t.parseByteLevel(raw)
	}
	kind := readType(raw)
	if kind == "Metaspace" {
		return t.parseMetaspace(raw)
	}
	var v struct {
		Type          string           `json:"type"`
		PreTokenizers []jsontext.Value `json:"pretokenizers"`
	}
	if kind != "Sequence" {
		return fmt.Errorf("%s is not supported, expected Metaspace, or a Sequence of WhitespaceSplit and Metaspace", orNone(kind))
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	var kinds []string
	for _, value := range v.PreTokenizers {
		kinds = append(kinds, readType(value))
	}
	if !slices.Equal(kinds, []string{"WhitespaceSplit", "Metaspace"}) {
		return fmt.Errorf("a Sequence of [%s] is not supported, expected Metaspace, or a Sequence of WhitespaceSplit and Metaspace", strings.Join(kinds, ", "))
	}
	if err := decode(v.PreTokenizers[0], new(struct {
		Type string `json:"type"`
	})); err != nil {
		return err
	}
	err := t.parseMetaspace(v.PreTokenizers[1])
	t.Words.AtSpaces = true
	return err
}

func (t *Tokenizer) parseMetaspace(raw jsontext.Value) error {
	var v struct {
		Type        string   `json:"type"`
		Replacement string   `json:"replacement"`
		Prepend     *Prepend `json:"prepend_scheme"`
		PrefixSpace *bool    `json:"add_prefix_space"` // of tokenizers before 0.15
		Split       *bool    `json:"split"`
		Text        *string  `json:"str_rep"` // likewise, the replacement again
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	if v.Replacement != metaspace {
		return fmt.Errorf("the replacement is %.40q, expected %q", v.Replacement, metaspace)
	}
	prepend := valueOr(v.Prepend, PrependAlways)
	if !slices.Contains([]Prepend{PrependAlways, PrependFirst, PrependNever}, prepend) {
		return fmt.Errorf("prepend_scheme is %.40q, expected always, first or never", prepend)
	}
	if !valueOr(v.PrefixSpace, true) {
		if prepend != PrependNever {
			return fmt.Errorf("add_prefix_space is false and prepend_scheme is %q, expected \"never\"", prepend)
		}
	}
	t.Words = Words{Prepend: prepend, AtMetaspace: valueOr(v.Split, true)}
	return nil
}

func (t *Tokenizer) parseByteLevel(raw jsontext.Value) error {
	if kind := readType(raw); kind != "ByteLevel" {
		return fmt.Errorf("%s is not supported, expected ByteLevel", orNone(kind))
	}
	var v struct {
		Type        string `json:"type"`
		PrefixSpace *bool  `json:"add_prefix_space"`
		TrimOffsets bool   `json:"trim_offsets"`
		UseRegex    *bool  `json:"use_regex"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	if v.PrefixSpace == nil {
		return errors.New("add_prefix_space is missing, expected true or false")
	}
	if !valueOr(v.UseRegex, true) {
		return errors.New("use_regex is false, which is not supported, expected true")
	}
	t.Words = Words{PrefixSpace: *v.PrefixSpace}
	return nil
}

// writeWords writes the pre-tokenizer in the format of the tokenizer library.
func (t *Tokenizer) writeWords(b *bytes.Buffer) {
	w := t.Words
	switch t.Kind {
	case WordPiece:
		b.WriteString(`{"type":"BertPreTokenizer"}`)
	case BPE:
		fmt.Fprintf(b, `{"type":"ByteLevel","add_prefix_space":%t,"trim_offsets":false,"use_regex":true}`, w.PrefixSpace)
	default:
		space := fmt.Sprintf(`{"type":"Metaspace","replacement":"%s","prepend_scheme":"%s","split":%t}`, metaspace, w.Prepend, w.AtMetaspace)
		if w.AtSpaces {
			space = `{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},` + space + `]}`
		}
		b.WriteString(space)
	}
}

// Keeps reports whether the normalizer makes neither nothing nor white space of a
// letter or ASCII character r that stands alone.
func (t *Tokenizer) Keeps(r rune) bool {
	for _, step := range t.Steps {
		if step.Kind != Precompiled {
			continue
		}
		if text, ok := step.charsmap.transform(string(r)); ok && (text == "" || strings.ContainsAny(text, " \t\n\r") || strings.Contains(text, metaspace)) {
			return false
		}
	}
	return true
}

// Leaves reports whether the normalizer leaves a letter or ASCII character r as it is
// if r stands alone.
func (t *Tokenizer) Leaves(r rune) bool {
	return !t.Replaces(r) && !slices.ContainsFunc(t.Steps, func(s Step) bool { return s.Kind == NFKC || s.Kind == Lowercase })
}

// Replaces reports whether a table of the normalizer has a replacement for r alone.
func (t *Tokenizer) Replaces(r rune) bool {
	return slices.ContainsFunc(t.Steps, func(s Step) bool {
		if s.Kind != Precompiled {
			return false
		}
		text, ok := s.charsmap.transform(string(r))
		return ok && text != string(r)
	})
}
