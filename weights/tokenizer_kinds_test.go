package weights

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// testCharsmap returns the table of a Precompiled normalizer in base64. Each node of
// the double array has a block of 256 units of its own.
func testCharsmap(replacements map[string]string) string {
	const leaf = 1 << 31
	units := make([]uint32, 512)
	units[0] = 256 << 10
	blocks := map[string]uint32{"": 256}
	var text []byte
	for _, key := range sortedKeys(replacements) {
		for i := range len(key) {
			if _, ok := blocks[key[:i+1]]; ok {
				continue
			}
			next := uint32(len(units))
			units = append(units, make([]uint32, 256)...)
			blocks[key[:i+1]] = next
			at := blocks[key[:i]] ^ uint32(key[i])
			units[at] = (at^next)<<10 | uint32(key[i])
		}
		parent := blocks[key[:len(key)-1]] ^ uint32(key[len(key)-1])
		units[parent] |= 1 << 8
		units[blocks[key]] = leaf | uint32(len(text))
		text = append(append(text, replacements[key]...), 0)
	}
	data := binary.LittleEndian.AppendUint32(nil, uint32(4*len(units)))
	for _, u := range units {
		data = binary.LittleEndian.AppendUint32(data, u)
	}
	return base64.StdEncoding.EncodeToString(append(data, text...))
}

// unigramFile returns a valid tokenizer.json of XLM-RoBERTa's form with edits.
func unigramFile(t testing.TB, edits map[string]any) []byte {
	t.Helper()
	piece := func(text string, score float64) any { return []any{text, score} }
	return editedFile(t, map[string]any{
		"version": "1.0",
		"added_tokens": []any{
			addedToken(0, "<s>"), addedToken(1, "<pad>"), addedToken(2, "</s>"), addedToken(3, "<unk>"), addedToken(9, "<mask>"),
		},
		"normalizer": map[string]any{"type": "Sequence", "normalizers": []any{
			map[string]any{"type": "Precompiled", "precompiled_charsmap": testCharsmap(map[string]string{"ﬁ": "fi", "\t": " ", "é": "é"})},
			map[string]any{"type": "Replace", "pattern": map[string]any{"Regex": " {2,}"}, "content": " "},
		}},
		"pre_tokenizer":  map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
		"post_processor": map[string]any{"type": "RobertaProcessing", "sep": []any{"</s>", 2}, "cls": []any{"<s>", 0}, "trim_offsets": true, "add_prefix_space": true},
		"model": map[string]any{"type": "Unigram", "unk_id": 3, "vocab": []any{
			piece("<s>", 0), piece("<pad>", 0), piece("</s>", 0), piece("<unk>", 0), piece("▁", -2.5), piece("a", -3.25), piece("▁a", -3), piece("b", -1e1), piece("ab", -4.125), piece("<mask>", 0),
		}},
	}, edits)
}

// bpeFile returns a valid tokenizer.json of RoBERTa's form with edits.
func bpeFile(t testing.TB, edits map[string]any) []byte {
	t.Helper()
	return editedFile(t, map[string]any{
		"version":        "1.0",
		"added_tokens":   []any{addedToken(0, "<s>"), addedToken(1, "</s>"), addedToken(8, "<mask>")},
		"normalizer":     map[string]any{"type": "NFC"},
		"pre_tokenizer":  map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"post_processor": map[string]any{"type": "RobertaProcessing", "sep": []any{"</s>", 1}, "cls": []any{"<s>", 0}, "trim_offsets": true, "add_prefix_space": false},
		"model": map[string]any{
			"type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": "", "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
			"vocab":  map[string]any{"<s>": 0, "</s>": 1, "a": 2, "b": 3, "Ġ": 4, "ab": 5, "Ġa": 6, "Ġab": 7},
			"merges": []any{"a b", "Ġ a", "Ġ ab"},
		},
	}, edits)
}

func editedFile(t testing.TB, file map[string]any, edits map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	for _, path := range sortedKeys(edits) {
		setPath(tree, strings.Split(path, "."), edits[path])
	}
	if text, err = json.Marshal(tree); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParseUnigram(t *testing.T) {
	t.Parallel()
	got, err := ParseTokenizer(unigramFile(t, nil), 10)
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != Unigram || got.UnknownID != 3 || len(got.Steps) != 2 || got.Words != (Words{Prepend: PrependAlways, AtMetaspace: true}) {
		t.Errorf("got %+v", got)
	}
	want := "<s>:0 A:0 </s>:0 </s>:0 B:0 </s>:0"
	if text := describe(got.Pair); text != want || got.SpecialTokens() != 4 {
		t.Errorf("template %q with %d special tokens, want %q", text, got.SpecialTokens(), want)
	}
	for pair, want := range map[string]bool{"ab": false, "ba": true, "xy": false, "ax": true, "▁b": true, "▁a": false} {
		r := []rune(pair)
		if got.Splits(r[0], r[1]) != want {
			t.Errorf("Splits of %q is %t, want %t", pair, !want, want)
		}
	}
	if !got.Keeps('a') || got.Keeps('\t') || !got.Keeps('ﬁ') || got.Leaves('ﬁ') || !got.Leaves('a') {
		t.Error("Keeps or Leaves is wrong")
	}
	again, err := ParseTokenizer(got.JSON(), 10)
	if err == nil || !strings.Contains(err.Error(), "post_processor") {
		t.Errorf("the library's post-processor was accepted: %v, %v", again.Pair, err)
	}
}

func TestParseBPE(t *testing.T) {
	t.Parallel()
	texts := map[string]bool{}
	for _, merges := range []any{[]any{"a b", "Ġ a", "Ġ ab"}, []any{[]any{"a", "b"}, []any{"Ġ", "a"}, []any{"Ġ", "ab"}}} {
		got, err := ParseTokenizer(bpeFile(t, map[string]any{"model.merges": merges}), 9)
		if err != nil {
			t.Fatal(err)
		}
		if got.Kind != BPE || got.UnknownID != -1 || got.Words.PrefixSpace || len(got.Steps) != 1 {
			t.Errorf("got %+v", got)
		}
		texts[string(got.JSON())] = true
	}
	if len(texts) != 1 {
		t.Errorf("old and new merges give %d results, want one", len(texts))
	}
}

func TestParseTokenizerKindsAccept(t *testing.T) {
	t.Parallel()
	for name, edits := range map[string]map[string]any{
		"no normalizer":       {"normalizer": nil},
		"first":               {"pre_tokenizer.prepend_scheme": "first"},
		"never":               {"pre_tokenizer.prepend_scheme": "never", "pre_tokenizer.add_prefix_space": false},
		"no scheme":           {"pre_tokenizer.prepend_scheme": absentValue{}, "pre_tokenizer.add_prefix_space": true, "pre_tokenizer.str_rep": "▁"},
		"bytes":               {"model.byte_fallback": true},
		"no type":             {"model.type": absentValue{}},
		"two post-processors": {"post_processor": map[string]any{"type": "Sequence", "processors": []any{map[string]any{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}, map[string]any{"type": "BertProcessing", "sep": []any{"</s>", 2}, "cls": []any{"<s>", 0}}}}},
		"white space, then Metaspace": {"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "WhitespaceSplit"}, map[string]any{"type": "Metaspace", "replacement": "▁"}}}},
	} {
		if _, err := ParseTokenizer(unigramFile(t, edits), 10); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseUnigramRefuses(t *testing.T) {
	t.Parallel()
	data, err := base64.StdEncoding.DecodeString(testCharsmap(map[string]string{"ﬁ": "fi", "é": "é"}))
	if err != nil {
		t.Fatal(err)
	}
	table := func(change func(data []byte) []byte) map[string]any {
		return map[string]any{"normalizer.normalizers.0.precompiled_charsmap": base64.StdEncoding.EncodeToString(change(slices.Clone(data)))}
	}
	first := func(value uint32) map[string]any {
		return table(func(data []byte) []byte { binary.LittleEndian.PutUint32(data[4:], value); return data })
	}
	piece := func(values ...any) map[string]any { return map[string]any{"model.vocab.5": values} }
	for name, test := range map[string]struct {
		edits map[string]any
		want  string
	}{
		"no unk_id":             {map[string]any{"model.unk_id": nil}, "unk_id"},
		"unk_id too large":      {map[string]any{"model.unk_id": 10}, "unk_id is 10, expected less than the 10 pieces"},
		"unk_id negative":       {map[string]any{"model.unk_id": -1}, "unk_id is -1"},
		"field":                 {map[string]any{"model.novel": 1}, `"novel"`},
		"vocabulary an object":  {map[string]any{"model.vocab": map[string]any{"a": 1}}, "expected an array of pieces"},
		"vocabulary empty":      {map[string]any{"model.vocab": []any{}}, "empty"},
		"piece a string":        {map[string]any{"model.vocab.5": "a"}, `piece 5 is "a"`},
		"piece of one":          {piece("x"), "piece 5 is"},
		"piece of three":        {piece("x", 1, 2), "piece 5 is"},
		"score a string":        {piece("x", "NaN"), "piece 5 is"},
		"score null":            {piece("x", nil), "piece 5 is"},
		"score infinite":        {piece("x", json.Number("-1e999")), "score -1e999"},
		"score huge":            {piece("x", -1e12), "expected -1e+09"},
		"score with a long exp": {piece("x", json.Number("1e-99999999999999999999")), "score"},
		"piece twice":           {piece("ab", -1), `"ab" occurs twice`},
		"piece with NUL":        {piece("a\x00", -1), "NUL"},
		"piece too long":        {piece(strings.Repeat("x", maxTokenBytes+1), -1), "limit"},
		"normalizer":            {map[string]any{"normalizer": map[string]any{"type": "Nmt"}}, `"Nmt" is not supported`},
		"normalizer's field":    {map[string]any{"normalizer": map[string]any{"type": "NFC", "novel": 1}}, "novel"},
		"regular expression":    {map[string]any{"normalizer.normalizers.1.pattern.Regex": "(a*)*b"}, "pattern"},
		"replacement":           {map[string]any{"normalizer.normalizers.1.content": "x"}, "content"},
		"steps":                 {map[string]any{"normalizer.normalizers": slices.Repeat([]any{map[string]any{"type": "NFC"}}, 17)}, "more than 16"},
		"no table":              {map[string]any{"normalizer.normalizers.0.precompiled_charsmap": nil}, "missing"},
		"table not base64":      {map[string]any{"normalizer.normalizers.0.precompiled_charsmap": "!"}, "base64"},
		"table empty":           {map[string]any{"normalizer.normalizers.0.precompiled_charsmap": ""}, "0 bytes"},
		"table cut":             {table(func(data []byte) []byte { return data[:1000] }), "double array of"},
		"table without units":   {table(func(data []byte) []byte { clear(data[:4]); return data }), "double array of 0 bytes"},
		"units not whole":       {table(func(data []byte) []byte { data[0]++; return data }), "multiple of 4"},
		"root outside":          {first(1 << 29), "a node at"},
		"table not UTF-8":       {table(func(data []byte) []byte { return append(data, 0xFF) }), "not valid UTF-8"},
		"replacement outside":   {table(func(data []byte) []byte { return data[:len(data)-6] }), "a replacement at byte"},
		"pre-tokenizer":         {map[string]any{"pre_tokenizer": map[string]any{"type": "Whitespace"}}, `"Whitespace" is not supported`},
		"no pre-tokenizer":      {map[string]any{"pre_tokenizer": nil}, "none is not supported"},
		"scheme":                {map[string]any{"pre_tokenizer.prepend_scheme": "last"}, `"last"`},
		"scheme and prefix":     {map[string]any{"pre_tokenizer.add_prefix_space": false}, "add_prefix_space is false"},
		"metaspace":             {map[string]any{"pre_tokenizer.replacement": "_"}, `"_"`},
		"sequence":              {map[string]any{"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{map[string]any{"type": "Digits"}}}}, "[Digits]"},
		"two templates": {map[string]any{"post_processor": map[string]any{"type": "Sequence", "processors": slices.Repeat([]any{
			map[string]any{"type": "BertProcessing", "sep": []any{"</s>", 2}, "cls": []any{"<s>", 0}}}, 2)}}, "after another template"},
		"template's token": {map[string]any{"post_processor.sep": []any{"</s>", 7}}, "but the token has 2"},
		"added token's id": {map[string]any{"added_tokens.4": addedToken(4, "<mask>")}, `"<mask>"`},
	} {
		_, err := ParseTokenizer(unigramFile(t, test.edits), 10)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v lacks %q", name, err, test.want)
		}
	}
	_, err = ParseTokenizer(unigramFile(t, nil), 9)
	wantError(t, err, "<mask>", "vocab_size 9")
}

func TestParseBPERefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		edits map[string]any
		want  string
	}{
		"merge out of the vocabulary":  {map[string]any{"model.merges.1": "Ġ b"}, `merge 1: of "Ġ" and "b": "Ġb" is not in the vocabulary`},
		"merge of an unknown token":    {map[string]any{"model.merges.0": "a x"}, `"x" is not in the vocabulary`},
		"merge of three":               {map[string]any{"model.merges.0": "a b a"}, "not two tokens"},
		"merge of one":                 {map[string]any{"model.merges.0": "ab"}, "not two tokens"},
		"merge of nothing":             {map[string]any{"model.merges.0": " ab"}, `"" is not in the vocabulary`},
		"merge a number":               {map[string]any{"model.merges.0": 7}, "merge 0: found 7"},
		"merges mixed":                 {map[string]any{"model.merges.1": []any{"Ġ", "a"}}, "merge 1"},
		"merges missing":               {map[string]any{"model.merges": absentValue{}}, "merges"},
		"merges an object":             {map[string]any{"model.merges": map[string]any{}}, "expected an array of pairs"},
		"vocabulary a list":            {map[string]any{"model.vocab": []any{}}, "object of token ids"},
		"dropout":                      {map[string]any{"model.dropout": 0.1}, "dropout is 0.1"},
		"byte_fallback":                {map[string]any{"model.byte_fallback": true}, "byte_fallback"},
		"prefix":                       {map[string]any{"model.continuing_subword_prefix": "##"}, "continuing_subword_prefix"},
		"unknown token":                {map[string]any{"model.unk_token": "<unk>"}, `"<unk>" is not in the vocabulary`},
		"field":                        {map[string]any{"model.novel": 1}, `"novel"`},
		"pre-tokenizer":                {map[string]any{"pre_tokenizer.type": "Metaspace"}, `"Metaspace" is not supported`},
		"another regular expression":   {map[string]any{"pre_tokenizer.use_regex": false}, "use_regex is false"},
		"prefix space missing":         {map[string]any{"pre_tokenizer.add_prefix_space": absentValue{}}, "add_prefix_space is missing"},
		"normalizer":                   {map[string]any{"normalizer.type": "Prepend"}, `"Prepend" is not supported`},
		"id beyond the embedding":      {map[string]any{"model.vocab.ab": 900}, "vocab_size 9"},
		"ids twice":                    {map[string]any{"model.vocab.ab": 6}, "which another token already has"},
		"special token not in the ids": {map[string]any{"post_processor.cls": []any{"<x>", 0}}, `"<x>"`},
	} {
		_, err := ParseTokenizer(bpeFile(t, test.edits), 9)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v lacks %q", name, err, test.want)
		}
	}
}

// TestCharsmapLookups checks that lookups find the shortest part that has a
// replacement, and that damage to any byte of a table never makes one panic.
func TestCharsmapLookups(t *testing.T) {
	t.Parallel()
	encoded := testCharsmap(map[string]string{"ﬁ": "fi", "é": "e", "a": "", "ab": "x"})
	c, err := parseCharsmap(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"ﬁ": "fi", "é": "e", "éx": "e", "a": "", "ab": "", "b": "none", "": "none", "\x00": "none"} {
		got, ok := c.transform(text)
		if !ok {
			got = "none"
		}
		if got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	r, accepted := rand.New(rand.NewPCG(3, 4)), 0
	for range 20000 {
		damaged := slices.Clone(data)
		for range 1 + r.IntN(3) {
			damaged[r.IntN(len(damaged))] = byte(r.IntN(256))
		}
		c, err := parseCharsmap(base64.StdEncoding.EncodeToString(damaged))
		if err != nil {
			continue
		}
		accepted++
		for range 20 {
			text := make([]byte, 1+r.IntN(6))
			for i := range text {
				text[i] = byte(r.IntN(256))
			}
			c.transform(string(text))
		}
	}
	if accepted < 1000 || accepted > 19990 {
		t.Errorf("%d of 20000 damaged tables are accepted, want some and not all", accepted)
	}
}

// TestScoresAreReadAsAutoTokenizer checks scores against those that the tokenizer
// library 0.23.3 read in Python from the same digits.
func TestScoresAreReadAsAutoTokenizer(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{
		"0": 0, "-0.0": 0, "12": 12, "-1.5": -1.5, "25e-1": 2.5, "1E+3": 1000, "0.1": 0.1, "1e-400": 0, "123456789012345678901234567890": 123456789012345678901234567890,
	} {
		if got := libraryFloat([]byte(text)); math.Abs(got-want) > 1e-15*math.Abs(want) {
			t.Errorf("%s is read as %v, want %v", text, got, want)
		}
	}
	// Numbers that the library does not round to the nearest float64.
	for _, test := range []struct {
		text string
		want float64
	}{
		{"-19.525102111858402", -0x1.3866d178d7e0bp+4},
		{"-9.063687527415507", -0x1.2209ba6ced34fp+3},
		{"-1.58875894546508789e+01", -0x1.fc67220000001p+3},
		{"-10.50393007622902885601", -0x1.502031f79bfb9p+3},
		{"-19.603496949851642", -0x1.39a7ec6aed93ap+4},
		{"-6.27495025696193486908", -0x1.9198c8f66b697p+2},
		{"-2.34191584587097167969", -0x1.2bc3e60000001p+1},
		{"-19.061958510501906", -0x1.30fdc83505086p+4},
	} {
		if got := libraryFloat([]byte(test.text)); got != test.want {
			t.Errorf("%s is read as %x, want %x", test.text, got, test.want)
		}
	}
}

// TestSplit checks the splits of words that the tests of the tokenizer library have.
func TestSplit(t *testing.T) {
	t.Parallel()
	pieces := []any{}
	for _, p := range []struct {
		text  string
		score float64
	}{
		{"<unk>", 0}, {"ab", 0}, {"cd", -0.1}, {"abc", -0.2}, {"a", -0.3}, {"b", -0.4}, {"c", -0.5}, {"ABC", -0.5}, {"abcdabcd", 20}, {"q", 20.5}, {"r", 20.5}, {"qr", -0.5},
	} {
		pieces = append(pieces, []any{p.text, p.score})
	}
	edits := map[string]any{"model.vocab": pieces, "model.unk_id": 0, "added_tokens": []any{}, "post_processor": nil}
	tok, err := ParseTokenizer(unigramFile(t, edits), 300)
	if err != nil {
		t.Fatal(err)
	}
	for word, want := range map[string]string{
		"abc": "abc", "AB": "?", "abcd": "ab cd", "abcc": "abc c", "xabcabaabcdd": "? abc ab a ab cd ?", "xyz東京": "?", "ABC": "ABC", "abABCcd": "ab ABC cd",
		"ababcdabcdcd": "ab abcdabcd cd", "abqrcd": "ab q r cd", "": "", "x<unk>y": "?",
	} {
		var got []string
		for _, id := range tok.Split(word, nil) {
			if id == 0 {
				got = append(got, "?")
			} else {
				got = append(got, tok.Token(int(id)))
			}
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%q splits into %q, want %q", word, text, want)
		}
	}
	for n := range 256 {
		if n == 0xC3 || n == 0xA9 {
			pieces = append(pieces, []any{fmt.Sprintf("<0x%02X>", n), -1.0})
		}
	}
	edits["model.vocab"], edits["model.byte_fallback"] = pieces, true
	if tok, err = ParseTokenizer(unigramFile(t, edits), 300); err != nil {
		t.Fatal(err)
	}
	if a, b := tok.Split("é", nil), tok.Split("?é", nil); !slices.Equal(a, []uint32{13, 12}) && !slices.Equal(a, []uint32{12, 13}) || !slices.Equal(b, []uint32{0}) {
		t.Errorf("bytes split into %v and %v", a, b)
	}
}

// TestClassesRebuild checks what the classes of transformers replace, and that a
// warning names it.
func TestClassesRebuild(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file   []byte
		config string // tokenizer_config.json
		words  Words
		pair   string
		warned []string
	}{
		"xlm-roberta": {
			unigramFile(t, nil), `{"tokenizer_class":"XLMRobertaTokenizerFast"}`, Words{AtSpaces: true, Prepend: PrependAlways, AtMetaspace: true},
			"<s>:0 A:0 </s>:0 </s>:0 B:0 </s>:0", []string{"normalizer", "pre_tokenizer"},
		},
		"xlm-roberta without a prefix": {
			unigramFile(t, nil), `{"tokenizer_class":"XLMRobertaTokenizer","add_prefix_space":null}`, Words{AtSpaces: true, Prepend: PrependNever, AtMetaspace: true},
			"<s>:0 A:0 </s>:0 </s>:0 B:0 </s>:0", []string{"normalizer", "pre_tokenizer"},
		},
		"camembert, by the unknown token": {
			unigramFile(t, map[string]any{"model.unk_id": 1}), `{"tokenizer_class":"CamembertTokenizer"}`, Words{AtSpaces: true, Prepend: PrependAlways, AtMetaspace: true},
			"<s>:0 A:0 </s>:0 </s>:0 B:0 </s>:0", []string{"normalizer", "pre_tokenizer", "model"},
		},
		"as it is": {
			unigramFile(t, map[string]any{"post_processor.type": "BertProcessing", "post_processor.trim_offsets": absentValue{}, "post_processor.add_prefix_space": absentValue{}}),
			`{"tokenizer_class":"PreTrainedTokenizerFast","model_input_names":["input_ids","token_type_ids"]}`, Words{Prepend: PrependAlways, AtMetaspace: true},
			"<s>:0 A:0 </s>:0 B:1 </s>:1", nil,
		},
		"as it is, without type ids": {
			unigramFile(t, map[string]any{"post_processor.type": "BertProcessing", "post_processor.trim_offsets": absentValue{}, "post_processor.add_prefix_space": absentValue{}}),
			`{"tokenizer_class":"TokenizersBackend"}`, Words{Prepend: PrependAlways, AtMetaspace: true}, "<s>:0 A:0 </s>:0 B:0 </s>:0", nil,
		},
		"roberta": {
			bpeFile(t, map[string]any{"model.ignore_merges": true}), `{"tokenizer_class":"RobertaTokenizer","add_prefix_space":true,"pad_token":"a"}`, Words{PrefixSpace: true},
			"<s>:0 A:0 </s>:0 </s>:0 B:0 </s>:0", []string{"normalizer", "pre_tokenizer", "model"},
		},
	} {
		dir := t.TempDir()
		for file, data := range map[string][]byte{tokenizerFile: test.file, tokenizerConfigFile: []byte(test.config), configFile: []byte(`{"model_type":"bert"}`)} {
			weightstest.WriteFile(t, filepath.Join(dir, file), data)
		}
		got, warnings, err := OpenTokenizer(dir, 20)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if pair := describe(got.Pair); got.Words != test.words || pair != test.pair {
			t.Errorf("%s: words %+v, pair %q", name, got.Words, pair)
		}
		if got.Kind == Unigram && got.UnknownID != 3 {
			t.Errorf("%s: unknown piece %d, want 3", name, got.UnknownID)
		}
		for i, warning := range warnings {
			if len(warnings) != len(test.warned) || !strings.Contains(warning, "its "+test.warned[i]) {
				t.Errorf("%s: warnings %q, want %q", name, warnings, test.warned)
			}
		}
		if len(warnings) == 0 && len(test.warned) > 0 {
			t.Errorf("%s: no warnings, want %q", name, test.warned)
		}
	}
}

// TestClassesRefuse checks that a class refuses a model of another kind.
func TestClassesRefuse(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{
		`{"tokenizer_class":"RobertaTokenizer"}`:                      `type "Unigram", but the tokenizer_class RobertaTokenizer needs "BPE"`,
		`{"tokenizer_class":"BertTokenizer"}`:                         `needs "WordPiece"`,
		`{"tokenizer_class":"DebertaV2Tokenizer"}`:                    `"DebertaV2Tokenizer" is not supported`,
		`{"tokenizer_class":"XLMRobertaTokenizer","bos_token":null}`:  "bos_token is null",
		`{"tokenizer_class":"XLMRobertaTokenizer","eos_token":"<x>"}`: "<x>",
	} {
		dir := t.TempDir()
		for file, data := range map[string][]byte{tokenizerFile: unigramFile(t, nil), tokenizerConfigFile: []byte(config), configFile: []byte(`{"model_type":"xlm-roberta"}`)} {
			weightstest.WriteFile(t, filepath.Join(dir, file), data)
		}
		_, _, err := OpenTokenizer(dir, 10)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v lacks %q", config, err, want)
		}
	}
}
