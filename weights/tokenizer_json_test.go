package weights

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// tokenizerWith returns a valid tokenizer.json of 300 tokens with the values at
// the given paths replaced. A path that ends in "-" is deleted.
func tokenizerWith(t testing.TB, edits map[string]any) []byte {
	t.Helper()
	var file map[string]any
	text, err := json.Marshal(weightstest.Tokenizer(300))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(edits)) {
		setPath(file, strings.Split(path, "."), edits[path])
	}
	if text, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	return text
}

// absentValue as the value of an edit removes the field.
type absentValue struct{}

func setPath(at any, path []string, value any) {
	switch node := at.(type) {
	case map[string]any:
		switch {
		case len(path) > 1:
			setPath(node[path[0]], path[1:], value)
		case value == (absentValue{}):
			delete(node, path[0])
		default:
			node[path[0]] = value
		}
	case []any:
		i := int(path[0][0] - '0')
		if len(path) > 1 {
			setPath(node[i], path[1:], value)
		} else {
			node[i] = value
		}
	}
}

func addedToken(id int, content string) map[string]any {
	return map[string]any{"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
}

func TestParseTokenizer(t *testing.T) {
	t.Parallel()
	tokenizer, err := ParseTokenizer(tokenizerWith(t, map[string]any{
		"truncation": map[string]any{"max_length": 128, "strategy": "LongestFirst", "stride": 0, "direction": "Left"},
	}), 300)
	if err != nil {
		t.Fatal(err)
	}
	cls, sep := Piece{Token: "[CLS]", ID: 101}, Piece{Token: "[SEP]", ID: 102}
	end := sep
	end.TypeID = 1
	single := []Piece{cls, {Sequence: SequenceA}, sep}
	if !slices.Equal(tokenizer.Single, single) || !slices.Equal(tokenizer.Pair, append(single, Piece{Sequence: SequenceB, TypeID: 1}, end)) {
		t.Errorf("templates %+v and %+v", tokenizer.Single, tokenizer.Pair)
	}
	if tokenizer.TruncationSide != Left || tokenizer.Unknown != "[UNK]" || tokenizer.UnknownID != 100 || len(tokenizer.AddedTokens) != 5 {
		t.Errorf("got %+v", tokenizer)
	}
	if n := tokenizer.Normalizer; !n.CleanText || !n.HandleChineseChars || n.StripAccents != nil || !n.Lowercase {
		t.Errorf("normalizer %+v", n)
	}
	again, err := ParseTokenizer(tokenizer.JSON(), 300)
	if err == nil || !strings.Contains(err.Error(), "post_processor") {
		t.Errorf("the tokenizer library's post-processor was accepted as a model's: %v, %v", again.Pair, err)
	}
}

// TestParseTokenizerAccepts parses variants that AutoTokenizer reads too.
func TestParseTokenizerAccepts(t *testing.T) {
	t.Parallel()
	want, err := ParseTokenizer(tokenizerWith(t, nil), 300)
	if err != nil {
		t.Fatal(err)
	}
	for name, edits := range map[string]map[string]any{
		"no model type, as before 0.9": {"model.type": absentValue{}},
		"BertProcessing, as before 0.9": {"post_processor": map[string]any{
			"type": "BertProcessing", "sep": []any{"[SEP]", 102}, "cls": []any{"[CLS]", 101}}},
		"no normalized, as before 0.8": {"added_tokens.0.normalized": absentValue{}},
		"no decoder":                   {"decoder": absentValue{}},
		"another decoder":              {"decoder": map[string]any{"type": "Novel", "prefix": 7}},
		"no version":                   {"version": absentValue{}},
		"padding":                      {"padding": map[string]any{"strategy": "BatchLongest"}},
	} {
		got, err := ParseTokenizer(tokenizerWith(t, edits), 300)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	for name, edits := range map[string]map[string]any{
		"escaped tokens":               {"model.vocab.a\"9\\": 250, "model.vocab.data": absentValue{}},
		"an empty token":               {"model.vocab.": 250, "model.vocab.data": absentValue{}},
		"a gap":                        {"model.vocab.data": absentValue{}},
		"no post-processor":            {"post_processor": nil},
		"added beyond the vocabulary":  {"added_tokens.0": addedToken(300, "[NEW]")},
		"template with another start":  {"post_processor.pair.0": map[string]any{"SpecialToken": map[string]any{"id": "[SEP]", "type_id": 0}}},
		"document at type id 0":        {"post_processor.pair.3.Sequence.type_id": 0},
		"the longest word of a normal": {"model.max_input_chars_per_word": 200},
	} {
		if _, err := ParseTokenizer(tokenizerWith(t, edits), 300); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseTokenizerRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxTokenBytes+1)
	tests := map[string]struct {
		edits map[string]any
		want  string
	}{
		"unknown field":            {map[string]any{"novel": 1}, `field "novel"`},
		"version":                  {map[string]any{"version": "1.0\x00"}, "version"},
		"normalizer":               {map[string]any{"normalizer": map[string]any{"type": "NFC"}}, "BertNormalizer"},
		"no normalizer":            {map[string]any{"normalizer": nil}, "none is not supported"},
		"normalizer's field":       {map[string]any{"normalizer.novel": true}, `"novel"`},
		"normalizer lacks a field": {map[string]any{"normalizer.lowercase": nil}, "lowercase is missing"},
		"normalizer's type":        {map[string]any{"normalizer.lowercase": "yes"}, `"lowercase": found a string`},
		"pre-tokenizer":            {map[string]any{"pre_tokenizer": nil}, "BertPreTokenizer"},
		"pre-tokenizer's field":    {map[string]any{"pre_tokenizer.novel": 1}, `"novel"`},
		"decoder":                  {map[string]any{"decoder": "WordPiece"}, "decoder"},
		"truncation":               {map[string]any{"truncation": map[string]any{"direction": "Up"}}, "truncation"},
		"no model":                 {map[string]any{"model": nil}, "model"},
		"model type":               {map[string]any{"model.type": "WordLevel"}, `"WordLevel"`},
		"model type by fields":     {map[string]any{"model.type": absentValue{}, "model.max_input_chars_per_word": absentValue{}}, `"WordLevel"`},
		"model's field":            {map[string]any{"model.dropout": 0.5}, `"dropout"`},
		"model lacks a field":      {map[string]any{"model.unk_token": absentValue{}}, "unk_token"},
		"unknown token":            {map[string]any{"model.unk_token": "[NONE]"}, `"[NONE]"`},
		"prefix":                   {map[string]any{"model.continuing_subword_prefix": "#\x00"}, "NUL"},
		"word length":              {map[string]any{"model.max_input_chars_per_word": 100000}, "max_input_chars_per_word"},
		"id beyond the vocabulary": {map[string]any{"model.vocab.new": 300}, "vocab_size 300"},
		"id negative":              {map[string]any{"model.vocab.new": -3}, "expected a token id, found -3"},
		"id fractional":            {map[string]any{"model.vocab.new": 1.5}, "expected a token id, found 1.5"},
		"id huge":                  {map[string]any{"model.vocab.new": json.Number("99999999999999999999999")}, "token id 9999"},
		"id nested":                {map[string]any{"model.vocab.new": map[string]any{"b": 1}}, "expected a token id, found {"},
		"id twice":                 {map[string]any{"model.vocab.new": 7}, "which another token already has"},
		"token with NUL":           {map[string]any{"model.vocab.a\x00": 7}, "NUL"},
		"token too long":           {map[string]any{"model.vocab." + long: 7}, "limit"},
		"vocabulary a list":        {map[string]any{"model.vocab": []any{"a"}}, "object of token ids"},
		"vocabulary empty":         {map[string]any{"model.vocab": map[string]any{}}, "empty"},
		"added tokens no list":     {map[string]any{"added_tokens": map[string]any{}}, "added_tokens"},
		"added id negative":        {map[string]any{"added_tokens.0": addedToken(-1, "[X]")}, "-1"},
		"added id no number":       {map[string]any{"added_tokens.0.id": "1"}, "added_tokens"},
		"added token too long":     {map[string]any{"added_tokens.0": addedToken(300, long)}, "limit"},
		"added token empty":        {map[string]any{"added_tokens.0": addedToken(300, "")}, "empty"},
		"added token twice":        {map[string]any{"added_tokens.1": addedToken(0, "[PAD]")}, "twice"},
		"added ids twice":          {map[string]any{"added_tokens.1": addedToken(0, "[X]")}, "the id 0"},
		"added id not the token's": {map[string]any{"added_tokens.0": addedToken(1, "[PAD]")}, `"[PAD]"`},
		"added id with a gap":      {map[string]any{"added_tokens.0": addedToken(301, "[X]")}, "expected 300"},
		"added id in the middle":   {map[string]any{"added_tokens.0": addedToken(299, "[X]"), "model.vocab.[unused5]": absentValue{}}, "which a token of the vocabulary already has"},
		"added token's field":      {map[string]any{"added_tokens.0.novel": 1}, `novel`},
		"added token incomplete":   {map[string]any{"added_tokens.0.lstrip": absentValue{}}, "lstrip"},
		"post-processor":           {map[string]any{"post_processor.type": "Novel"}, `"Novel"`},
		"two ids":                  {map[string]any{"post_processor.special_tokens.[CLS].ids": []int{1, 2}}, "2 ids and 1 tokens"},
		"no tokens":                {map[string]any{"post_processor.special_tokens.[CLS].tokens": []string{}}, "1 ids and 0 tokens"},
		"nothing":                  {map[string]any{"post_processor.special_tokens.[CLS].tokens": []string{}, "post_processor.special_tokens.[CLS].ids": []int{}}, "0 ids"},
		"token missing":            {map[string]any{"post_processor.special_tokens.[CLS]": absentValue{}}, `"[CLS]"`},
		"token not known":          {map[string]any{"post_processor.special_tokens.[CLS].tokens": []string{"[X]"}}, `"[X]"`},
		"token's id":               {map[string]any{"post_processor.special_tokens.[CLS].ids": []int{100}}, "but the token has 101"},
		"text twice":               {map[string]any{"post_processor.pair.3.Sequence.id": "A"}, "texts"},
		"text of another name":     {map[string]any{"post_processor.pair.3.Sequence.id": "C"}, "texts"},
		"type id huge":             {map[string]any{"post_processor.pair.3.Sequence.type_id": 1 << 20}, "type_id"},
		"type id missing":          {map[string]any{"post_processor.pair.3.Sequence.type_id": absentValue{}}, "type_id"},
		"piece of two":             {map[string]any{"post_processor.pair.3.SpecialToken": map[string]any{"id": "[CLS]", "type_id": 0}}, "either"},
	}
	for name, test := range tests {
		_, err := ParseTokenizer(tokenizerWith(t, test.edits), 300)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v lacks %q", name, err, test.want)
		}
	}
	_, err := ParseTokenizer(tokenizerWith(t, nil), 102)
	wantError(t, err, "vocab_size 102")
}

func TestParseTokenizerRefusesText(t *testing.T) {
	t.Parallel()
	good := string(tokenizerWith(t, nil))
	for name, test := range map[string]struct{ text, want string }{
		"nothing":                    {"", "not valid JSON"},
		"an array":                   {"[]", "found an array"},
		"half":                       {good[:len(good)/2], "not valid JSON"},
		"text after the object":      {good + "x", "not valid JSON"},
		"an object after the object": {good + "{}", "not valid JSON"},
		"invalid UTF-8":              {strings.Replace(good, "[UNK]", "[UN\xff]", 1), "UTF-8"},
		"lone surrogate":             {strings.Replace(good, "[UNK]", `[UN\ud800]`, 1), "surrogate"},
		"key twice":                  {`{"version":"1.0",` + good[1:], `"version" occurs twice`},
		"key twice, nested":          {strings.Replace(good, `"vocab":{`, `"vocab":{"[CLS]":101,`, 1), `[CLS]" occurs twice`},
	} {
		_, err := ParseTokenizer([]byte(test.text), 300)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v lacks %q", name, err, test.want)
		}
	}
}

// TestLowercaseFirst reads the normalizer that sentence-transformers saves for a model
// with do_lower_case: a Lowercase before BERT's. Other sequences are refused.
func TestLowercaseFirst(t *testing.T) {
	t.Parallel()
	bert := `{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":false}`
	tok := Tokenizer{Kind: WordPiece}
	if err := tok.parseNormalizer([]byte(`{"type":"Sequence","normalizers":[{"type":"Lowercase"},` + bert + `]}`)); err != nil {
		t.Fatal(err)
	}
	if n := tok.Normalizer; !n.Lowercase || n.StripAccents == nil || *n.StripAccents {
		t.Errorf("%+v, want lower-casing that keeps accents", n)
	}
	for _, other := range []string{`{"type":"NFC"},` + bert, bert, `{"type":"Lowercase"},{"type":"NFC"}`} {
		if err := tok.parseNormalizer([]byte(`{"type":"Sequence","normalizers":[` + other + `]}`)); err == nil {
			t.Errorf("%s is accepted", other)
		}
	}
}
