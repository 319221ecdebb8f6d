package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/weights"
)

// chunkOfHash counts the pairs that share a hash in the golden.
const chunkOfHash = 64

// A kindGolden is a model directory without weights, and the ids that AutoTokenizer
// gives with it.
type kindGolden struct {
	Name       string                     `json:"name"`
	Vocabulary string                     `json:"vocabulary"`
	Parts      map[string]json.RawMessage `json:"parts"` // of tokenizer.json
	Files      map[string]json.RawMessage `json:"files"`
	Every      int                        `json:"every"`  // of so many pairs, the case has one
	Hashes     string                     `json:"hashes"` // 8 digits for each chunk
	Full       []fullIDs                  `json:"full"`
}

// fullIDs holds the ids of one pair, so that a difference can be read.
type fullIDs struct {
	Index        int
	IDs, TypeIDs []int32
}

func (f *fullIDs) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&f.Index, &f.IDs, &f.TypeIDs})
}

type kindGoldens struct {
	Pairs int          `json:"pairs"`
	Texts string       `json:"texts_sha256"`
	Cases []kindGolden `json:"cases"`
}

// trained reads the trained vocabularies, by name.
func trained(t testing.TB) map[string]map[string]json.RawMessage {
	t.Helper()
	out := map[string]map[string]json.RawMessage{}
	for _, kind := range []string{"unigram", "bpe"} {
		var fields map[string]json.RawMessage
		readGolden(t, "tokenizers/trained-"+kind+".json.gz", &fields)
		out[kind] = fields
	}
	all := bytes.TrimSuffix(bytes.TrimSpace(out["unigram"]["vocab"]), []byte("]"))
	for n := range 256 {
		all = fmt.Appendf(slices.Clip(all), `,["<0x%02X>",0.0]`, n)
	}
	out["unigram with bytes"] = map[string]json.RawMessage{"charsmap": out["unigram"]["charsmap"], "vocab": append(all, ']')}
	return out
}

// tokenizerJSON returns the tokenizer.json of a case.
func (g kindGolden) tokenizerJSON(t testing.TB, vocabulary map[string]json.RawMessage) []byte {
	t.Helper()
	file := map[string]json.RawMessage{"version": json.RawMessage(`"1.0"`)}
	maps.Copy(file, g.Parts)
	var model map[string]json.RawMessage
	if err := json.Unmarshal(g.Parts["model"], &model); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vocab", "merges"} {
		if vocabulary[name] != nil {
			model[name] = vocabulary[name]
		}
	}
	file["model"] = encodeJSON(t, model)
	return bytes.ReplaceAll(encodeJSON(t, file), []byte(`"$charsmap"`), cmpBytes(vocabulary["charsmap"], `""`))
}

func cmpBytes(a []byte, otherwise string) []byte {
	if a == nil {
		return []byte(otherwise)
	}
	return a
}

func encodeJSON(t testing.TB, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// open opens the tokenizer of a case.
func (g kindGolden) open(t testing.TB, vocabulary map[string]json.RawMessage) (weights.Tokenizer, []string) {
	t.Helper()
	dir := t.TempDir()
	files := maps.Clone(g.Files)
	files["tokenizer.json"] = g.tokenizerJSON(t, vocabulary)
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file, warnings, err := weights.OpenTokenizer(dir, 1<<14)
	if err != nil {
		t.Fatalf("%s: %v", g.Name, err)
	}
	return file, warnings
}

// A goldenPair is a pair with how it is truncated.
type goldenPair struct {
	Pair
	maximum int
	side    Truncation
}

// Numbers as scripts/goldens/token_texts.py makes them: SplitMix64.
type goldenNumbers struct{ state uint64 }

func (n *goldenNumbers) below(limit int) int {
	n.state += 0x9E3779B97F4A7C15
	z := n.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return int((z ^ z>>31) % uint64(limit))
}

var (
	goldenLengths = []int{5, 6, 7, 8, 9, 16, 31, 64, 65, 128, 512}
	goldenSpaces  = []string{" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\u2003", "\u0085", " \n ", "\v", "\f"}
	goldenJoins   = []string{"", "", " ", " ", "\n", "-"}
	goldenSpecial = []string{
		"<s>", "</s>", "<mask>", "<pad>", "<unk>", " <mask> ", "<mask>  ", "[SEP]", "[CLS]", "[MASK]", " [MASK] ", "[UNK]", "<S>", "<s", "/s>", "<0x41>", "\u2581", "\u2581\u2581a",
		"\x00", "a\x00b", "\x00\x00 \x00", "<s\x00>", "\U0010ffff", "\U0010ffff0", "\u0120", "\u0120a", "|||IP|||", "keep", " Keep ", "KEEP", "keeper", "wide  gap", "a.b", "'s", "I'll", "don't've", "\ufffd", "e\u0301", " \u0301", "\ufb01", "\u2460", "\uff21\uff42",
	}
)

// goldenTexts holds the texts that pairs are made of.
type goldenTexts struct {
	pool      [][]rune
	sentences []string
}

func readGoldenTexts(t testing.TB) (g goldenTexts) {
	t.Helper()
	seen := map[string]bool{}
	for _, line := range readGoldenLines[tokensGolden](t, "tokens.jsonl.gz") {
		for _, text := range []string{line.Query, line.Document} {
			if runes := []rune(text); line.Name != "" && !seen[text] && !strings.Contains(text, "\x00") && len(runes) > 0 && len(runes) <= 400 {
				seen[text] = true
				g.pool = append(g.pool, runes)
			}
		}
	}
	data, err := os.ReadFile("testdata/languages.json")
	if err != nil {
		t.Fatal(err)
	}
	var list [][2]string
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	for _, item := range list {
		g.sentences = append(g.sentences, item[1])
	}
	return g
}

func (g goldenTexts) part(n *goldenNumbers) string {
	switch kind := n.below(8); {
	case kind < 4:
		text := g.pool[n.below(len(g.pool))]
		start := n.below(len(text))
		return string(text[start:min(len(text), start+n.below(60))])
	case kind == 4:
		return g.sentences[n.below(len(g.sentences))]
	case kind == 5:
		return goldenSpecial[n.below(len(goldenSpecial))]
	case kind == 6:
		return strings.Repeat(goldenSpaces[n.below(len(goldenSpaces))], 1+n.below(4))
	}
	c := rune(1 + n.below(0x10FFFF))
	if c >= 0xD800 && c < 0xE000 {
		c = ' '
	}
	return strings.Repeat(string(c), 1+n.below(3))
}

func (g goldenTexts) text(n *goldenNumbers) string {
	if n.below(30) == 0 {
		return ""
	}
	var b strings.Builder
	for range 1 + n.below(5) {
		b.WriteString(g.part(n))
		b.WriteString(goldenJoins[n.below(len(goldenJoins))])
	}
	return b.String()
}

// pairs returns the pairs of the golden, as token_texts.pairs makes them.
func (g goldenTexts) pairs() []goldenPair {
	return slices.Concat(everyScalar(), g.mixed(), g.long())
}

// everyScalar returns pairs with every Unicode scalar value.
func everyScalar() (out []goldenPair) {
	for start := rune(0); start < 0x110000; start += 64 {
		var chars strings.Builder
		var words []string
		for c := start; c < start+64; c++ {
			if c < 0xD800 || c >= 0xE000 {
				chars.WriteRune(c)
				words = append(words, "a"+string(c)+"b")
			}
		}
		if len(words) > 0 {
			out = append(out, goldenPair{Pair{chars.String(), strings.Join(words, " ")}, 4096, TruncateRight})
		}
	}
	return out
}

func (g goldenTexts) mixed() (out []goldenPair) {
	for i := range 4000 {
		n := &goldenNumbers{uint64(i)}
		query := g.text(n)
		document := g.text(n)
		document += g.text(n)
		maximum := goldenLengths[n.below(len(goldenLengths))]
		side := []Truncation{TruncateRight, TruncateRight, TruncateLeft}[n.below(3)]
		if len([]rune(query))+len([]rune(document)) >= 150 {
			maximum = max(maximum, 64)
		}
		out = append(out, goldenPair{Pair{query, document}, maximum, side})
	}
	return out
}

func (g goldenTexts) long() (out []goldenPair) {
	for i, sentence := range g.sentences {
		n := &goldenNumbers{uint64(1000000 + i)}
		var document strings.Builder
		for range 80 {
			document.WriteString(g.text(n))
		}
		size := len([]rune(sentence))
		side := []Truncation{TruncateRight, TruncateLeft}[i%2]
		out = append(out,
			goldenPair{Pair{sentence, document.String()}, 512, side},
			goldenPair{Pair{sentence, strings.Repeat(sentence+" ", 9000/size)}, 1024, side},
			goldenPair{Pair{sentence, strings.Repeat(strings.ReplaceAll(sentence, " ", ""), 6000/size)}, 2048, side},
		)
	}
	return out
}

// tokensOf tokenises pairs in parts, as the engine does, without an engine.
func tokensOf(t testing.TB, tok *tokenizer, pairs []goldenPair) []Tokens {
	t.Helper()
	out := make([]Tokens, len(pairs))
	for i, p := range pairs {
		var err error
		if out[i], err = tok.tokensOf(p); err != nil {
			t.Fatalf("%.300q: %v", p.Pair, err)
		}
	}
	return out
}

func (t *tokenizer) tokensOf(p goldenPair) (Tokens, error) {
	query, document := untokenised(p.Query), untokenised(p.Document)
	for {
		text := &query
		switch t.frame.findMissing(query, document, p.maximum, 0) {
		case missesNothing:
			return t.frame.join(query, document, p.maximum, p.side), nil
		case missesDocument:
			text = &document
		}
		ids, at, err := t.encodePart(context.Background(), text.rest, text.word.bytes, p.side == TruncateLeft)
		if err != nil {
			return Tokens{}, err
		}
		*text = text.add(ids, at, p.maximum, p.side)
	}
}

// hashes returns the hashes of the pairs' tokens, chunk by chunk.
func hashes(tokens []Tokens) (out []string) {
	for chunk := range slices.Chunk(tokens, chunkOfHash) {
		h := sha256.New()
		for _, t := range chunk {
			for _, list := range [][]int32{{int32(len(t.IDs))}, t.IDs, t.TypeIDs} {
				if err := binary.Write(h, binary.LittleEndian, list); err != nil {
					panic(err)
				}
			}
		}
		out = append(out, hex.EncodeToString(h.Sum(nil))[:8])
	}
	return out
}

func readKindGoldens(t testing.TB) (g kindGoldens) {
	t.Helper()
	readGolden(t, "tokenkinds.json.gz", &g)
	if len(g.Cases) < 8 || g.Pairs < 20000 {
		t.Fatalf("%d cases of %d pairs", len(g.Cases), g.Pairs)
	}
	return g
}

// chunksToTry lists the chunks to compare: a part of them with -short, and under the
// race detector, since make test compares all without it too.
func chunksToTry(chunks int) (out []int) {
	step := 1
	if testing.Short() || underRace {
		step = 9
	}
	for i := 0; i < chunks; i += step {
		out = append(out, i)
	}
	return out
}

// TestTokenKindsEqualAutoTokenizer checks that Unigram and byte-level BPE tokenizers
// have AutoTokenizer's ids, for every Unicode scalar value, texts in 50
// languages, spelled special tokens, truncation on both sides, and long texts.
func TestTokenKindsEqualAutoTokenizer(t *testing.T) {
	goldens, vocabularies := readKindGoldens(t), trained(t)
	all := readGoldenTexts(t).pairs()
	checkGoldenTexts(t, goldens, all)
	for _, g := range goldens.Cases {
		t.Run(g.Name, func(t *testing.T) {
			t.Parallel()
			pairs := g.pairs(all)
			file, _ := g.open(t, vocabularies[g.Vocabulary])
			tok := openTokenizerFile(t, file, 8192)
			for _, full := range g.Full {
				if (testing.Short() || underRace) && full.Index%7 != 0 {
					continue
				}
				got := tokensOf(t, tok, pairs[full.Index:full.Index+1])[0]
				if !slices.Equal(got.IDs, full.IDs) || !slices.Equal(got.TypeIDs, full.TypeIDs) {
					p := pairs[full.Index]
					t.Fatalf("pair %d at %d, %s: %.200q\nids   %v\nwant  %v\ntypes %v\nwant  %v", full.Index, p.maximum, p.side, p.Pair, got.IDs, full.IDs, got.TypeIDs, full.TypeIDs)
				}
			}
			bad := 0
			for _, chunk := range chunksToTry(len(g.Hashes) / 8) {
				from := chunk * chunkOfHash
				part := pairs[from:min(len(pairs), from+chunkOfHash)]
				if got, want := hashes(tokensOf(t, tok, part))[0], g.Hashes[8*chunk:8*chunk+8]; got != want {
					if bad++; bad <= 3 {
						t.Errorf("the ids of pairs %d to %d differ: hash %s, want %s", from, from+len(part)-1, got, want)
					}
				}
			}
			if bad > 0 {
				t.Errorf("%d chunks differ", bad)
			}
		})
	}
}

// pairs returns the pairs of the case.
func (g kindGolden) pairs(all []goldenPair) (out []goldenPair) {
	for i := 0; i < len(all); i += max(1, g.Every) {
		out = append(out, all[i])
	}
	return out
}

// checkGoldenTexts checks that the texts are those that the script has made.
func checkGoldenTexts(t *testing.T, g kindGoldens, pairs []goldenPair) {
	t.Helper()
	h := sha256.New()
	for _, p := range pairs {
		text := fmt.Sprintf("%d %s%s %d%s\n", utf8.RuneCountInString(p.Query), p.Query, p.Document, p.maximum, p.side)
		if _, err := h.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != g.Texts || len(pairs) != g.Pairs {
		t.Fatalf("%d texts with the hash %s, the golden has %d with %s: token_texts.py makes others", len(pairs), got, g.Pairs, g.Texts)
	}
}

// TestTokenKindsControlsDiffer checks that the goldens detect a tokenizer that is
// wrong in one part.
func TestTokenKindsControlsDiffer(t *testing.T) {
	goldens, vocabularies := readKindGoldens(t), trained(t)
	all := readGoldenTexts(t).pairs()
	const flags = "added tokens without flags"
	flagged := 0
	for name, change := range map[string]func(*weights.Tokenizer){
		"another prepend scheme": func(f *weights.Tokenizer) {
			f.Words.Prepend = map[weights.Prepend]weights.Prepend{"always": "never", "never": "always", "first": "always"}[f.Words.Prepend]
			f.Words.PrefixSpace = !f.Words.PrefixSpace
		},
		"another template": func(f *weights.Tokenizer) {
			if sep := f.Pair[2]; len(f.Pair) == 5 {
				f.Pair = []weights.Piece{f.Pair[0], f.Pair[1], sep, sep, f.Pair[3], f.Pair[4]}
			} else {
				f.Pair = slices.Delete(slices.Clone(f.Pair), 2, 3)
			}
		},
		"no normalizer": func(f *weights.Tokenizer) {
			if f.Steps == nil {
				f.Steps = []weights.Step{{Kind: weights.NFKC}}
			} else {
				f.Steps = nil
			}
		},
		flags: func(f *weights.Tokenizer) {
			f.AddedTokens = slices.Clone(f.AddedTokens)
			for i := range f.AddedTokens {
				f.AddedTokens[i].LStrip, f.AddedTokens[i].SingleWord = false, false
			}
		},
	} {
		for _, g := range goldens.Cases {
			file, _ := g.open(t, vocabularies[g.Vocabulary])
			change(&file)
			tok, pairs := openTokenizerFile(t, file, 8192), g.pairs(all)
			differ := 0
			for _, full := range g.Full {
				got := tokensOf(t, tok, pairs[full.Index:full.Index+1])[0]
				if !slices.Equal(got.IDs, full.IDs) {
					differ++
				}
			}
			switch {
			case differ == 0 && name != flags:
				t.Errorf("%s, %s: no pair differs", g.Name, name)
			case differ > 0 && name == flags:
				flagged++
			}
		}
	}
	// Where white space ends words, an added token may take it or not.
	if flagged < 5 {
		t.Errorf("%s: the pairs of %d cases differ, want 5 or more", flags, flagged)
	}
}

// TestReplacedPartsAreWarnedOf checks that a warning names the parts of tokenizer.json
// that AutoTokenizer replaces.
func TestReplacedPartsAreWarnedOf(t *testing.T) {
	goldens, vocabularies := readKindGoldens(t), trained(t)
	wants := map[string][]string{
		"xlm-roberta, other pipeline":       {"normalizer is replaced", "pre_tokenizer is replaced"},
		"roberta, prefix":                   {"pre_tokenizer is replaced"},
		"bert with xlm-roberta's tokenizer": {"pre_tokenizer is replaced"},
	}
	for _, g := range goldens.Cases {
		_, warnings := g.open(t, vocabularies[g.Vocabulary])
		if len(warnings) != len(wants[g.Name]) {
			t.Errorf("%s: warnings %.300q, want %d", g.Name, warnings, len(wants[g.Name]))
			continue
		}
		for i, want := range wants[g.Name] {
			if !strings.Contains(warnings[i], want) {
				t.Errorf("%s: warning %.300q lacks %q", g.Name, warnings[i], want)
			}
		}
	}
}

// TestLongTextsOfAutoTokenizerTakeLinearTime checks that a text of 5 MB takes at most twice five times
// the processor time of one of 1 MB, and gives the same first tokens, however it is
// spelled. Texts without a place to cut are tokenised as far as a pair needs.
func TestLongTextsOfAutoTokenizerTakeLinearTime(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("slow: it measures processor time without the race detector")
	}
	goldens, vocabularies := readKindGoldens(t), trained(t)
	var refused []string
	for _, g := range goldens.Cases {
		if !slices.Contains([]string{"xlm-roberta", "roberta", "modernbert"}, g.Name) {
			continue
		}
		file, _ := g.open(t, vocabularies[g.Vocabulary])
		tok := openTokenizerFile(t, file, 8192)
		for name, unit := range map[string]string{
			"prose": "The city has water, and naïve “quotes” — 東京都. ", "ideographs": "人人生而自由在尊严和权利上一律平等他们赋有理性和良心", "ideographs with stops": "人人生而自由，在尊严和权利上一律平等。",
			"one letter": "a", "line": "=", "added tokens": "<mask> x", "spaces": "  ", "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
		} {
			var took [2]time.Duration
			var first [2]Tokens
			for i, size := range []int{1 << 20, 5 << 20} {
				text := strings.Repeat(unit, size/len(unit))
				start := usage().cpu
				var err error
				for _, side := range []Truncation{TruncateRight, TruncateLeft} {
					first[i], err = tok.tokensOf(goldenPair{Pair{unit, text}, 8192, side})
					if err != nil && i == 1 && strings.Contains(err.Error(), "without a place to cut it") {
						refused = append(refused, fmt.Sprintf("%s: %s %s", g.Name, name, side))
					} else if err != nil {
						t.Errorf("%s, %s, %d bytes, %s: %v", g.Name, name, size, side, err)
					}
				}
				if name == "prose" {
					if _, err = tok.encode(text); err != nil {
						t.Errorf("%s, %s, %d bytes: %v", g.Name, name, size, err)
					}
				}
				took[i] = usage().cpu - start
			}
			t.Logf("%s, %s: %v, %v", g.Name, name, took[0], took[1])
			if took[1] > 10*took[0]+200*time.Millisecond { // five times the bytes, twice
				t.Errorf("%s, %s: %v for 1 MB, %v for 5 MB", g.Name, name, took[0], took[1])
			}
		}
	}
	// A word of more than 1 MB can be cut from the left only if no token joins its
	// letters, and never for bytes. The tokenizers of real models take such texts from
	// the right if they are ideographs with stops.
	for _, name := range []string{"xlm-roberta: ideographs right", "xlm-roberta: ideographs with stops right", "xlm-roberta: Thai right", "xlm-roberta: one letter right", "roberta: ideographs with stops right", "modernbert: ideographs with stops right", "modernbert: Thai right"} {
		if slices.Contains(refused, name) {
			t.Errorf("%s: refused", name)
		}
	}
	t.Logf("refused: %q", refused)
}

// TestPartsOfKindsEqualWholeText checks that a long text tokenised in parts, from
// either end, has the same tokens as tokenised whole.
func TestPartsOfKindsEqualWholeText(t *testing.T) {
	goldens, vocabularies, texts := readKindGoldens(t), trained(t), readGoldenTexts(t)
	count := 60
	if testing.Short() || underRace {
		count = 6
	}
	for _, g := range goldens.Cases {
		file, _ := g.open(t, vocabularies[g.Vocabulary])
		tok := openTokenizerFile(t, file, 1<<20)
		parts := 0
		for i := range count {
			n := &goldenNumbers{uint64(2000000 + i)}
			var b strings.Builder
			for b.Len() < 20000 {
				text := texts.text(n)
				switch i % 3 {
				case 1: // few places to cut
					text = strings.ReplaceAll(text, " ", "")
				case 2: // many added tokens
					text += goldenSpecial[n.below(len(goldenSpecial))]
				}
				b.WriteString(text)
			}
			whole, err := tok.encodeNow(b.String())
			if err != nil {
				t.Fatal(err)
			}
			want := appendIDs(nil, whole)
			for _, side := range []Truncation{TruncateRight, TruncateLeft} {
				if got := encodeFrom(t, tok, b.String(), side); !slices.Equal(got.ids, want) {
					t.Errorf("%s, text %d, %s: %d ids, want %d", g.Name, i, side, len(got.ids), len(want))
				}
			}
			if tok.cuts.first(b.String(), 0).at < b.Len() {
				parts++
			}
		}
		if parts < count/3 {
			t.Errorf("%s: only %d of %d texts were cut", g.Name, parts, count)
		}
	}
}
