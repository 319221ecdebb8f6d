package engine

import (
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
)

type longWordsGolden struct {
	Name  string `json:"name"`
	Parts []struct {
		Text  string `json:"text"`
		Times int    `json:"times"`
	} `json:"parts"`
	IDs []int32 `json:"ids"`
}

func (g *longWordsGolden) text() string {
	var b strings.Builder
	for _, part := range g.Parts {
		b.WriteString(strings.Repeat(part.Text, part.Times))
	}
	return b.String()
}

func longWordsGoldens(t *testing.T) []longWordsGolden {
	t.Helper()
	var file struct {
		Cases []longWordsGolden `json:"cases"`
	}
	readGolden(t, "longwords.json.gz", &file)
	if len(file.Cases) < 200 {
		t.Fatalf("%d cases, want at least 200", len(file.Cases))
	}
	return file.Cases
}

// TestLongWordsEqualHuggingFaces checks that a word of any length has the same ids
// as in Hugging Face's tokenizers, tokenised from the beginning or from the end.
func TestLongWordsEqualHuggingFaces(t *testing.T) {
	tok := openTokenizer(t, 1<<20)
	for _, g := range longWordsGoldens(t) {
		for _, side := range []Truncation{TruncateRight, TruncateLeft} {
			if got := encodeFrom(t, tok, g.text(), side); !slices.Equal(got.ids, g.IDs) {
				t.Errorf("%s, %s: %d ids %v, want %d %v", g.Name, side, len(got.ids), got.ids[:min(9, len(got.ids))], len(g.IDs), g.IDs[:min(9, len(g.IDs))])
			}
		}
	}
}

// The goldens must detect faults in shortening: a stretch that keeps as many
// characters as a word may have, or one that loses the end of a word.
func TestLongWordsControlsDiffer(t *testing.T) {
	tok := openTokenizer(t, 1<<20)
	right := tok.words
	for name, control := range map[string]longWords{
		"too few letters kept": {ends: 40},
	} {
		tok.words = control
		differ := 0
		for _, g := range longWordsGoldens(t) {
			if got := encodeFrom(t, tok, g.text(), TruncateRight); !slices.Equal(got.ids, g.IDs) {
				differ++
			}
		}
		if differ == 0 {
			t.Errorf("%s: no case differs", name)
		}
	}
	tok.words = right
}

// The memory for a word is bounded, since the tokenizer library gets only a short
// text.
func TestLongWordsAreShortened(t *testing.T) {
	tok := openTokenizer(t, 512)
	for name, text := range map[string]string{
		"letters":   strings.Repeat("ab", mostBytes),
		"marks":     strings.Repeat("e\u0301\u0323", mostBytes/4),
		"hangul":    strings.Repeat("한", mostBytes),
		"stretches": strings.Repeat(strings.Repeat("a", 5000)+"\u200b", 400),
	} {
		if got := tok.words.shorten(text); len(got) > len(text)/4 {
			t.Errorf("%s: %d of %d bytes remain", name, len(got), len(text))
		}
	}
	if got := makeLongWords(100, []weights.AddedToken{{Content: "covid"}}).shorten(strings.Repeat("a", 5000)); len(got) != 5000 {
		t.Error("a text is shortened although it may contain an added token of letters")
	}
}
