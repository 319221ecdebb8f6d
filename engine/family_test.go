package engine

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
)

// TestFamilyMatchesPyTorch checks every size of the ms-marco cross-encoders with
// synthetic weights. Logits must match PyTorch's, and the activation is the
// config's.
func TestFamilyMatchesPyTorch(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	var file struct {
		Models []tinyGolden `json:"models"`
	}
	readGolden(t, "family.json.gz", &file)
	if len(file.Models) < 5 {
		t.Fatalf("%d models, want TinyBERT and the four MiniLM", len(file.Models))
	}
	for _, g := range file.Models {
		t.Run(g.Name, func(t *testing.T) {
			model := openTiny(t, g)
			checkFloat32(t, g, model)
			if model.Scoring != weights.ScoringRaw || model.MaxLength != 512 {
				t.Errorf("scoring %q, at most %d tokens; want raw logits and 512", model.Scoring, model.MaxLength)
			}
			// A control is a pass over the model. In more than two layers short pairs show it.
			longest := 512
			if model.Config.Layers > 2 {
				longest = 128
			}
			tokens, want := g.short(longest)
			checkControls(t, model, tokens, want, exactness*deviation(g.Logits["float32"]))
		})
	}
}

// TestCasedTokensEqualHuggingFaces checks a cased vocabulary, whose normalizer
// keeps case and accents.
func TestCasedTokensEqualHuggingFaces(t *testing.T) {
	var file struct {
		Tokenizer json.RawMessage `json:"tokenizer"`
		Cases     []tokensGolden  `json:"cases"`
	}
	readGolden(t, "cased.json.gz", &file)
	texts := make(map[string]tokensGolden)
	for _, g := range tokensGoldens(t) {
		texts[g.Name] = g
	}
	if len(file.Cases) < 500 {
		t.Fatalf("%d cases, want at least 500", len(file.Cases))
	}
	cased := parseTokenizer(t, file.Tokenizer)
	lower := cased
	lower.Normalizer.Lowercase = true
	same := 0
	for i, g := range file.Cases {
		text := texts[g.Name]
		tok := openTokenizerFile(t, cased, text.MaxLength)
		got := tokenizePair(t, tok, text.pair())
		if !slices.Equal(got.IDs, g.IDs) || !slices.Equal(got.TypeIDs, g.TypeIDs) {
			t.Errorf("%s: ids %v, want %v", g.Name, got.IDs, g.IDs)
		}
		if i%10 == 0 { // negative control: the same file, read as uncased
			uncased := openTokenizerFile(t, lower, text.MaxLength)
			if slices.Equal(tokenizePair(t, uncased, text.pair()).IDs, g.IDs) {
				same++
			}
		}
	}
	if same > len(file.Cases)/20 {
		t.Errorf("control: lower case leaves %d of %d cases unchanged, want at most half", same, len(file.Cases)/10)
	}
}
