package engine

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/weights"
)

type tokensGolden struct {
	Name      string  `json:"name"`
	MaxLength int     `json:"max_length"`
	Query     string  `json:"query"`
	Document  string  `json:"document"`
	QueryB64  text64  `json:"query_b64"`
	DocB64    text64  `json:"document_b64"`
	IDs       []int32 `json:"input_ids"`
	TypeIDs   []int32 `json:"token_type_ids"`
}

// text64 is a text in base64, since JSON cannot hold invalid UTF-8.
type text64 string

func (t *text64) UnmarshalText(data []byte) error {
	raw, err := base64.StdEncoding.DecodeString(string(data))
	*t = text64(raw)
	return err
}

func (g tokensGolden) pair() Pair {
	return Pair{Query: g.Query + string(g.QueryB64), Document: g.Document + string(g.DocB64)}
}

func tokensGoldens(t *testing.T) []tokensGolden {
	t.Helper()
	var cases []tokensGolden
	for _, g := range readGoldenLines[tokensGolden](t, "tokens.jsonl.gz") {
		if g.Name != "" { // the first line describes how the file was made
			cases = append(cases, g)
		}
	}
	if len(cases) < 2000 {
		t.Fatalf("%d cases, want at least 2000", len(cases))
	}
	return cases
}

// openTokenizer opens the builtin model's tokenizer with a max length.
func openTokenizer(t testing.TB, maxLength int) *tokenizer {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(builtin(t).Info().Dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	return openTokenizerFile(t, parseTokenizer(t, file), maxLength)
}

// parseTokenizer parses a tokenizer.json for an unlimited number of embeddings.
func parseTokenizer(t testing.TB, file []byte) weights.Tokenizer {
	t.Helper()
	parsed, err := weights.ParseTokenizer(file, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func openTokenizerFile(t testing.TB, file weights.Tokenizer, maxLength int) *tokenizer {
	t.Helper()
	tok, err := newTokenizer(file, maxLength)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tok.close(); err != nil {
			t.Error(err)
		}
	})
	return tok
}

func tokenizePair(t testing.TB, tok *tokenizer, pair Pair) Tokens {
	t.Helper()
	out, err := tok.pairs(context.Background(), []Pair{pair})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// differences tokenises every golden and returns the names of those that differ.
func differences(t *testing.T, cases []tokensGolden, change func(Tokens) Tokens) []string {
	t.Helper()
	byLength := make(map[int][]tokensGolden)
	for _, g := range cases {
		byLength[g.MaxLength] = append(byLength[g.MaxLength], g)
	}
	var names []string
	for maxLength, group := range byLength {
		pairs := make([]Pair, len(group))
		for i, g := range group {
			pairs[i] = g.pair()
		}
		got, err := openTokenizer(t, maxLength).pairs(context.Background(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range group {
			tokens := change(got[i])
			if !slices.Equal(tokens.IDs, g.IDs) || !slices.Equal(tokens.TypeIDs, g.TypeIDs) {
				names = append(names, fmt.Sprintf("%s at %d", g.Name, maxLength))
			}
		}
	}
	return names
}

func TestTokensEqualHuggingFaces(t *testing.T) {
	cases := tokensGoldens(t)
	if bad := differences(t, cases, func(t Tokens) Tokens { return t }); len(bad) > 0 {
		t.Errorf("%d of %d cases differ: %.600q", len(bad), len(cases), bad)
	}
	t.Logf("%d cases equal", len(cases))
}

// Each control must change some cases, and far from all.
func TestTokenControlsDiffer(t *testing.T) {
	sep := int32(builtin(t).tokenizer.frame.pieces[2].ID)
	cases := tokensGoldens(t)
	for name, control := range map[string]func(Tokens) Tokens{
		"type ids by counting [SEP]": func(t Tokens) Tokens {
			seen := int32(0)
			for i, id := range t.IDs {
				t.TypeIDs[i] = min(seen, 1)
				if id == sep {
					seen++
				}
			}
			return t
		},
		"last token lost": func(t Tokens) Tokens {
			if t.Truncated {
				t.IDs = t.IDs[:len(t.IDs)-1]
				t.TypeIDs = t.TypeIDs[:len(t.TypeIDs)-1]
			}
			return t
		},
	} {
		if bad := differences(t, cases, control); len(bad) == 0 || len(bad) == len(cases) {
			t.Errorf("%s: %d of %d cases differ", name, len(bad), len(cases))
		}
	}
}

// A long text tokenised in parts has the same tokens as tokenised whole.
func TestTextInPartsEqualsWholeText(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	tok := openTokenizer(t, 1<<20)
	unit := "Réunion — naïve cafe\u0301, 東京都 東京 [SEP] a.b-c_d (x)\tend\r\n ‘quoted’ \u0301combining "
	for name, text := range map[string]string{
		"mixed":       strings.Repeat(unit, 2000),
		"ideographs":  strings.Repeat("東京都庁舎展望室", 9000),
		"punctuation": strings.Repeat("a.b", 40000),
		"special":     strings.Repeat("[SEP][MASK]", 9000),
		"one word":    strings.Repeat("a", 200000),
	} {
		whole, err := tok.encodeNow(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tok.encode(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := make([]int32, 0, len(whole))
		want = appendIDs(want, whole)
		if !slices.Equal(got.ids, want) || got.total != len(want) {
			t.Errorf("%s: %d tokens (%d counted), want %d", name, len(got.ids), got.total, len(want))
		}
		n := min(500, len(want))
		part := openTokenizer(t, n)
		first, last := encodeFrom(t, part, text, TruncateRight), encodeFrom(t, part, text, TruncateLeft)
		if !slices.Equal(first.ids, want[:n]) || !slices.Equal(last.ids, want[len(want)-n:]) || first.total != len(want) || last.total != len(want) {
			t.Errorf("%s: want the first and last %d of %d tokens", name, n, len(want))
		}
	}
}

// encodeFrom tokenises a whole text, from its end if side is TruncateLeft.
func encodeFrom(t testing.TB, tok *tokenizer, text string, side Truncation) encoded {
	t.Helper()
	e := untokenised(text)
	for !e.whole() {
		ids, at, err := tok.encodePart(context.Background(), e.rest, e.word.bytes, side == TruncateLeft)
		if err != nil {
			t.Fatal(err)
		}
		e = e.add(ids, at, tok.maxLength, side)
	}
	return e
}

// A text that can be neither cut nor shortened is refused by its size. A text with
// a word of any length is accepted.
func TestEndlessText(t *testing.T) {
	tok := openTokenizer(t, 512)
	got := tokenizePair(t, tok, Pair{"q", "red " + strings.Repeat("ab", mostBytes) + " fox"})
	if want := tokenizePair(t, tok, Pair{"q", "red [UNK] fox"}); !slices.Equal(got.IDs, want.IDs) {
		t.Errorf("ids %v, want %v", got.IDs, want.IDs)
	}
	_, err := tok.pairs(context.Background(), []Pair{{"q", "short"}, {"q", strings.Repeat("\u2588", mostBytes)}})
	if err == nil || !strings.Contains(err.Error(), "pair 1: 3145728 bytes") || !errors.Is(err, ErrText) {
		t.Errorf("got %v, want the document named", err)
	}
}

// However small the tokenised part of the texts is, a pair's tokens equal the
// tokens of the texts tokenised whole.
func TestTokensOfPartsEqualWholeText(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	r := rand.New(rand.NewPCG(31, 1))
	units := []string{"the city has water, ", "a.b", "東京都", "naïve cafe\u0301 ", "international-business ", "x\x00y ", "\xff", "[SEP]", " \n", strings.Repeat("a", 150), "שלום"}
	randomText := func(bytes int) string {
		var b strings.Builder
		for b.Len() < bytes {
			b.WriteString(units[r.IntN(len(units))])
		}
		return b.String()
	}
	for _, maxLength := range []int{3, 4, 63, 64, 1000, 1001} {
		tok := openTokenizer(t, maxLength)
		for range 30 {
			query, document := randomText(r.IntN(200)), randomText(r.IntN(3*partBytes))
			if r.IntN(3) == 0 {
				query = document[:len(document)/(1+r.IntN(3))] + randomText(r.IntN(20))
			}
			for _, opts := range []ScoreOptions{{}, {Truncation: TruncateLeft}, {Truncation: TruncateNot}, {DocumentTokens: 1 + r.IntN(2*maxLength)}} {
				checkPart(t, tok, Pair{query, document}, opts)
			}
		}
	}
}

func checkPart(t *testing.T, tok *tokenizer, pair Pair, opts ScoreOptions) {
	t.Helper()
	whole := func(text string) encoded {
		ids, err := tok.encodeNow(text)
		if err != nil {
			t.Fatal(err)
		}
		return encoded{}.add(ids, cut{}, len(ids), TruncateRight)
	}
	q, d := whole(pair.Query), whole(pair.Document)
	total := d.total
	if opts.DocumentTokens > 0 {
		d = d.first(opts.DocumentTokens)
	}
	want := tok.frame.join(q, d, tok.maxLength, opts.Truncation)
	want.Truncated = want.Truncated || d.total < total
	it, err := tok.tokenise(pair, opts)
	if opts.Truncation == TruncateNot && q.total+d.total+tok.frame.special > tok.maxLength {
		if !errors.Is(err, ErrTooLong) {
			t.Fatalf("%d and %d tokens at %d: %v, want ErrTooLong", q.total, d.total, tok.maxLength, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(it.IDs, want.IDs) || !slices.Equal(it.TypeIDs, want.TypeIDs) || it.Truncated != want.Truncated {
		t.Fatalf("%d and %d tokens at %d, %+v: ids %v, types %v, cut %v; want %+v", q.total, d.total, tok.maxLength, opts, it.IDs, it.TypeIDs, it.Truncated, want)
	}
}

// Tokenising a long text costs little more than the tokens that count, from either
// end.
func TestLongTextIsNotTokenisedWhole(t *testing.T) {
	tok := openTokenizer(t, 512)
	long := strings.Repeat("the city has water, ", 400000)
	for _, opts := range []ScoreOptions{{}, {Truncation: TruncateLeft}, {Truncation: TruncateNot}, {DocumentTokens: 100}} {
		bytes := 0
		_, err := tok.tokeniseWith(Pair{"water", long}, opts, func(ctx context.Context, text string, done int, last bool) ([]uint32, cut, error) {
			ids, at, err := tok.encodePart(ctx, text, done, last)
			bytes += at.at
			if last {
				bytes += len(text) - 2*at.at
			}
			return ids, at, err
		})
		if (err != nil) != (opts.Truncation == TruncateNot) {
			t.Error(err)
		}
		if bytes > 4*partBytes {
			t.Errorf("%+v: %d of %d bytes tokenised", opts, bytes, len(long))
		}
	}
}

func TestClosedTokenizerRefuses(t *testing.T) {
	tok := openTokenizer(t, 512)
	for range 2 {
		if err := tok.close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tok.encode("text"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// The settings of the normalizer, which tokenizer_config.json may override, reach
// the tokenizer library.
func TestNormalizerSwitches(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(builtin(t).Info().Dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	file := parseTokenizer(t, data)
	ids := func(change func(*weights.Normalizer)) []int32 {
		changed := file
		change(&changed.Normalizer)
		out, err := openTokenizerFile(t, changed, 512).encode("Résumé 東京\u200b")
		if err != nil {
			t.Fatal(err)
		}
		return out.ids
	}
	plain := ids(func(*weights.Normalizer) {})
	no := false
	for name, change := range map[string]func(*weights.Normalizer){
		"lowercase":            func(n *weights.Normalizer) { n.Lowercase = false },
		"strip_accents":        func(n *weights.Normalizer) { n.StripAccents = &no },
		"handle_chinese_chars": func(n *weights.Normalizer) { n.HandleChineseChars = false },
		"clean_text":           func(n *weights.Normalizer) { n.CleanText = false },
	} {
		if slices.Equal(ids(change), plain) {
			t.Errorf("%s has no effect", name)
		}
	}
}

func FuzzTokenise(f *testing.F) {
	for _, seed := range []string{"", " ", "a\x00b", "\xff[SEP]", "[SE\x00P]", "é́漢字", strings.Repeat("x", 300)} {
		f.Add(seed, seed+" document", 16)
	}
	f.Fuzz(func(t *testing.T, query, document string, maxLength int) {
		tok := builtin(t).tokenizer
		maxLength = tok.frame.special + (maxLength&0x7fffffff)%510
		q, err := tok.encode(query)
		if err != nil {
			t.Fatal(err)
		}
		d, err := tok.encode(document)
		if err != nil {
			t.Fatal(err)
		}
		got := tok.frame.join(q, d, maxLength, TruncateRight)
		checkTokens(t, got, q, d, tok.frame, maxLength)
		if cleaned := tok.clean(query); !utf8.ValidString(cleaned) || strings.Contains(cleaned, "\x00") {
			t.Errorf("clean(%q) = %q", query, cleaned)
		}
	})
}

// checkTokens checks the invariants of a pair's tokens.
func checkTokens(t *testing.T, got Tokens, q, d encoded, f frame, maxLength int) {
	t.Helper()
	n := len(got.IDs)
	if n > maxLength || n < f.special || len(got.TypeIDs) != n {
		t.Fatalf("%d ids and %d type ids, at most %d allowed", n, len(got.TypeIDs), maxLength)
	}
	if cls, sep := int32(f.pieces[0].ID), int32(f.pieces[2].ID); got.IDs[0] != cls || got.IDs[n-1] != sep {
		t.Errorf("the frame has %d and %d", got.IDs[0], got.IDs[n-1])
	}
	second := slices.Index(got.TypeIDs, 1)
	if second < 2 || got.IDs[second-1] != int32(f.pieces[2].ID) || slices.Contains(got.TypeIDs[second:], 0) {
		t.Errorf("type ids %v", got.TypeIDs)
	}
	kq, kd := second-2, n-second-1
	if !slices.Equal(got.IDs[1:1+kq], q.ids[:kq]) || !slices.Equal(got.IDs[second:n-1], d.ids[:kd]) {
		t.Error("the tokens are not the texts' first tokens")
	}
	if got.Truncated != (kq < q.total || kd < d.total) {
		t.Errorf("truncated is %v with %d of %d and %d of %d tokens", got.Truncated, kq, q.total, kd, d.total)
	}
	if got.Truncated && n != maxLength {
		t.Errorf("truncated to %d tokens although %d fit", n, maxLength)
	}
}
