package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// TestLabels selects each label of a model with three labels, by name and by
// index. The logits must be PyTorch's for that label.
func TestLabels(t *testing.T) {
	goldens := tinyGoldens(t)
	g := goldens[slices.IndexFunc(goldens, func(g tinyGolden) bool { return strings.Contains(g.Name, "labels3") })]
	g.Config["id2label"] = map[string]any{"0": "contradiction", "1": "entailment", "2": "neutral"}
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: g.Config, Seed: g.Seed})
	// Take the pairs of two texts, which ScoreTokens requires.
	var tokens []Tokens
	var all []float32
	for i, pair := range g.tokens() {
		if slices.Contains(pair.TypeIDs, 1) {
			tokens, all = append(tokens, pair), append(all, g.Logits["float32"][3*i:3*i+3]...)
		}
	}
	tolerance := exactness * deviation(all)
	for label, names := range [][]string{{"contradiction", "0"}, {"entailment", "1"}, {"neutral", "2"}} {
		var want, other []float32
		for i := range tokens {
			want = append(want, all[3*i+label])
			other = append(other, all[3*i+(label+1)%3])
		}
		for _, name := range names {
			e := openTinyEngine(t, Config{Model: dir, Label: name})
			result, err := e.ScoreTokens(context.Background(), lab.Key{}, tokens)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkLogits(result.Logits, want, tolerance); err != nil {
				t.Errorf("label %s: %v", name, err)
			}
			if checkLogits(result.Logits, other, tolerance) == nil {
				t.Errorf("label %s: another label's logits pass the check", name)
			}
			if info := e.Info(); info.Label != names[0] || info.Activation != "raw" || result.Scores[0] != result.Logits[0] {
				t.Errorf("label %q with activation %s, want %q raw", info.Label, info.Activation, names[0])
			}
		}
	}
	for asked, want := range map[string]string{"": "must be named", "maybe": `no label "maybe"`, "3": `no label "3"`, "-1": `no label "-1"`} {
		if _, err := Open(context.Background(), Config{Model: dir, Label: asked}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "contradiction, entailment, neutral") {
			t.Errorf("label %q: error %v lacks %q or the labels", asked, err, want)
		}
	}
	if e := openTinyEngine(t, Config{Label: "LABEL_0"}); e.Info().Label != "" {
		t.Errorf("the only label is named %q", e.Info().Label)
	}
}
