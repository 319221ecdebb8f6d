package weights

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of tokenizer.json. Real files are far below them. Above them, the
// tokenizer library needs minutes or gigabytes.
const (
	maxTokenID      = 1<<20 - 1 // the largest vocabularies have a million tokens
	maxTokenBytes   = 1 << 10   // of one token
	maxAddedTokens  = 1 << 16
	maxAddedBytes   = 1 << 20 // sum over all added tokens
	maxAddedJSON    = 24 << 20
	maxWordChars    = 256 // the cost of a word grows with the square
	maxPieces       = 64  // of a template
	maxTypeID       = 1<<10 - 1
	newestTokenizer = "1.0" // the only version of the format so far
)

// topFields lists the fields that tokenizer.json may have.
var topFields = []string{
	"version", "truncation", "padding", "added_tokens", "normalizer",
	"pre_tokenizer", "post_processor", "decoder", "model",
}

// splitTokenizer returns the fields of tokenizer.json and the fields of its model.
// It checks that the file is one JSON object in UTF-8. It does not check for keys
// that occur twice inside a field: decode does, and parseVocab has a faster check
// for the vocabulary, which is most of the file.
func splitTokenizer(data []byte) (fields, model object, err error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true))
	fields, model, err = readTokenizer(dec, data, "model")
	if err := atEnd(dec, err); err != nil {
		return nil, nil, err
	}
	for _, name := range sortedKeys(fields) {
		if !slices.Contains(topFields, name) {
			return nil, nil, fmt.Errorf("unknown field %.40q; it may change token ids; expected %s", name, strings.Join(topFields, ", "))
		}
	}
	return fields, model, nil
}

// readTokenizer returns the fields of an object. If the field called nested is an
// object, it returns its fields as inner. The values are parts of data: a large
// vocabulary is not copied.
func readTokenizer(dec *jsontext.Decoder, data []byte, nested string) (fields, inner object, err error) {
	fields = object{}
	err = readMembers(dec, func(name string) (err error) {
		fields[name] = nil
		if nested != "" && name == nested && dec.PeekKind() == '{' {
			inner, _, err = readTokenizer(dec, data, "")
			return err
		}
		value, err := dec.ReadValue()
		end := int(dec.InputOffset())
		fields[name] = data[end-len(value) : end : end]
		return err
	})
	return fields, inner, err
}

func checkVersion(raw jsontext.Value) error {
	var version *string
	if err := decode(raw, &version); err != nil {
		return err
	}
	if version != nil && *version != newestTokenizer {
		return fmt.Errorf("found %q, expected %q", *version, newestTokenizer)
	}
	return nil
}

func (t *Tokenizer) parseTruncation(raw jsontext.Value) error {
	var v struct {
		Direction *string  `json:"direction"`
		MaxLength *float64 `json:"max_length"`
		Strategy  any      `json:"strategy"`
		Stride    *float64 `json:"stride"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	if v.Direction == nil {
		return nil
	}
	switch *v.Direction {
	case "Left":
		t.TruncationSide = Left
	case "Right":
		t.TruncationSide = Right
	default:
		return fmt.Errorf("direction is %q, expected \"Left\" or \"Right\"", *v.Direction)
	}
	return nil
}

func (t *Tokenizer) parseNormalizer(raw jsontext.Value) error {
	raw, lowered := cutLowercase(raw)
	if kind := readType(raw); kind != "BertNormalizer" {
		return fmt.Errorf("%s is not supported, expected BertNormalizer", orNone(kind))
	}
	var v struct {
		Type               string `json:"type"`
		CleanText          *bool  `json:"clean_text"`
		HandleChineseChars *bool  `json:"handle_chinese_chars"`
		StripAccents       *bool  `json:"strip_accents"`
		Lowercase          *bool  `json:"lowercase"`
	}
	if err := decode(raw, &v); err != nil {
		return err
	}
	for _, field := range []struct {
		name  string
		value *bool
	}{{"clean_text", v.CleanText}, {"handle_chinese_chars", v.HandleChineseChars}, {"lowercase", v.Lowercase}} {
		if field.value == nil {
			return fmt.Errorf("%s is missing, expected true or false", field.name)
		}
	}
	t.Normalizer = Normalizer{CleanText: *v.CleanText, HandleChineseChars: *v.HandleChineseChars, StripAccents: v.StripAccents, Lowercase: *v.Lowercase}
	if lowered {
		t.lowerFirst()
	}
	return nil
}

// cutLowercase removes the Lowercase that sentence-transformers puts before the
// normalizer of a model with do_lower_case, and reports whether there was one.
func cutLowercase(raw jsontext.Value) (jsontext.Value, bool) {
	var sequence struct {
		Type        string           `json:"type"`
		Normalizers []jsontext.Value `json:"normalizers"`
	}
	if readType(raw) != "Sequence" || decode(raw, &sequence) != nil {
		return raw, false
	}
	if n := sequence.Normalizers; len(n) == 2 && readType(n[0]) == "Lowercase" {
		return n[1], true
	}
	return raw, false
}

func checkPreTokenizer(raw jsontext.Value) error {
	if kind := readType(raw); kind != "BertPreTokenizer" {
		return fmt.Errorf("%s is not supported, expected BertPreTokenizer", orNone(kind))
	}
	return decode(raw, new(struct {
		Type string `json:"type"`
	}))
}

func (t *Tokenizer) parseAddedTokens(raw jsontext.Value) error {
	var list []struct {
		ID         *int    `json:"id"`
		Content    *string `json:"content"`
		SingleWord *bool   `json:"single_word"`
		LStrip     *bool   `json:"lstrip"`
		RStrip     *bool   `json:"rstrip"`
		Normalized *bool   `json:"normalized"`
		Special    *bool   `json:"special"`
	}
	if len(raw) > maxAddedJSON {
		return fmt.Errorf("%d bytes (limit %d)", len(raw), maxAddedJSON)
	}
	if err := decode(raw, &list); err != nil {
		return err
	}
	if len(list) > maxAddedTokens {
		return fmt.Errorf("%d tokens (limit %d)", len(list), maxAddedTokens)
	}
	total := 0
	for i, a := range list {
		if a.ID == nil || a.Content == nil || a.SingleWord == nil || a.LStrip == nil || a.RStrip == nil || a.Special == nil {
			return fmt.Errorf("token %d lacks one of id, content, single_word, lstrip, rstrip, special", i)
		}
		if err := checkToken(*a.Content); err != nil {
			return err
		}
		if total += len(*a.Content); total > maxAddedBytes {
			return fmt.Errorf("more than %d bytes of tokens", maxAddedBytes)
		}
		if *a.ID < 0 || *a.ID > maxTokenID {
			return fmt.Errorf("token %q has the id %d, expected 0 to %d", *a.Content, *a.ID, maxTokenID)
		}
		t.AddedTokens = append(t.AddedTokens, AddedToken{
			ID: *a.ID, Content: *a.Content, SingleWord: *a.SingleWord, LStrip: *a.LStrip, RStrip: *a.RStrip,
			// tokenizers before 0.8 did not write normalized.
			Normalized: valueOr(a.Normalized, !*a.Special), Special: *a.Special,
		})
	}
	return nil
}

// checkToken checks the text of a token.
func checkToken[T string | []byte](token T) error {
	switch {
	case len(token) == 0:
		return errors.New("a token is empty")
	case len(token) > maxTokenBytes:
		return fmt.Errorf("token %.40q has %d bytes (limit %d)", token, len(token), maxTokenBytes)
	case strings.Contains(string(token), "\x00"):
		return fmt.Errorf("token %q contains NUL", token)
	}
	return nil
}

// checkIDs checks that the parts of tokenizer.json agree on ids, and that the
// library assigns the ids in the file.
func (t *Tokenizer) checkIDs(vocabSize int) error {
	words := t.model.words()
	if t.Unknown != "" {
		if t.UnknownID = words.wanted[t.Unknown]; t.UnknownID < 0 {
			return fmt.Errorf("model: unk_token %q is not in the vocabulary", t.Unknown)
		}
	}
	ids, err := t.checkAddedIDs(vocabSize)
	if err != nil {
		return fmt.Errorf("added_tokens: %w", err)
	}
	for _, p := range slices.Concat(t.Single, t.Pair) {
		if p.Sequence != "" {
			continue
		}
		id, ok := ids[p.Token]
		if !ok {
			id = words.wanted[p.Token]
		}
		if id < 0 {
			return fmt.Errorf("post_processor: special token %q is not a token", p.Token)
		}
		if id != p.ID {
			return fmt.Errorf("post_processor: special token %q has the id %d, but the token has %d", p.Token, p.ID, id)
		}
		if id >= vocabSize {
			return fmt.Errorf("post_processor: special token %q has the id %d, expected less than the vocab_size %d of %s", p.Token, id, vocabSize, configFile)
		}
	}
	return nil
}

// checkAddedIDs returns the ids of the added tokens. The library ignores their ids
// in the file: a token of the vocabulary keeps its id, and the others get the next
// ids from the size of the vocabulary on.
func (t *Tokenizer) checkAddedIDs(vocabSize int) (map[string]int, error) {
	ids := make(map[string]int, len(t.AddedTokens))
	owner := make(map[int]string, len(t.AddedTokens))
	words := t.model.words()
	next := words.tokens
	for i, a := range t.AddedTokens {
		if _, ok := ids[a.Content]; ok {
			return nil, fmt.Errorf("token %q occurs twice", a.Content)
		}
		if other, ok := owner[a.ID]; ok {
			return nil, fmt.Errorf("tokens %q and %q have the id %d", other, a.Content, a.ID)
		}
		ids[a.Content], owner[a.ID] = a.ID, a.Content
		want := words.wanted[a.Content]
		if want < 0 {
			if words.has(next) {
				return nil, fmt.Errorf("token %q would get the id %d, which a token of the vocabulary already has", a.Content, next)
			}
			want = next
			next++
		}
		if want != a.ID {
			return nil, fmt.Errorf("token %q has the id %d, expected %d", a.Content, a.ID, want)
		}
		t.AddedTokens[i].Beyond = a.ID >= vocabSize
	}
	return ids, nil
}
