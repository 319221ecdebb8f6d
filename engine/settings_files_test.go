package engine

import (
	"context"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// settingsGoldens holds CrossEncoder's results for variants of a tiny model's
// settings files.
type settingsGoldens struct {
	Seed  uint64                    `json:"seed"`
	Base  map[string]map[string]any `json:"base"`
	Pairs [][2]string               `json:"pairs"`
	Cases []settingsGolden          `json:"cases"`
}

type settingsGolden struct {
	Name       string         `json:"name"`
	Files      map[string]any `json:"files"` // for tokenizer.json, only the fields that differ
	Removed    []string       `json:"removed"`
	Refused    string         `json:"refused"` // CrossEncoder's error, "" for none
	Shows      []string       `json:"shows"`   // the answers that differ from the base model's
	MaxLength  int            `json:"max_length"`
	Activation string         `json:"activation"`
	Pairs      []struct {
		IDs     []int32   `json:"input_ids"`
		TypeIDs []int32   `json:"token_type_ids"`
		Logits  []float32 `json:"logits"`
		Scores  []float32 `json:"scores"`
		Softmax []float32 `json:"softmax"`
	} `json:"pairs"`
}

// write writes the model of a case to dir.
func (g *settingsGolden) write(t *testing.T, dir string, all *settingsGoldens) {
	t.Helper()
	files := map[string]any{}
	for name, value := range all.Base {
		if !slices.Contains(g.Removed, name) {
			files[name] = value
		}
	}
	maps.Copy(files, g.Files)
	if changes, ok := g.Files["tokenizer.json"]; ok {
		whole := maps.Clone(all.Base["tokenizer.json"])
		maps.Copy(whole, changes.(map[string]any))
		files["tokenizer.json"] = whole
	}
	for name, value := range files {
		weightstest.WriteJSON(t, filepath.Join(dir, name), value)
	}
	config := files["config.json"].(map[string]any)
	weightstest.WriteFile(t, filepath.Join(dir, "model.safetensors"), weightstest.Encode(weightstest.Tensors(weightstest.Spec{Config: config, Seed: all.Seed})))
}

// An answered holds an engine's results for the goldens' pairs.
type answered struct {
	tokens []Tokens
	result *Result
}

func (all *settingsGoldens) pairs() []Pair {
	pairs := make([]Pair, len(all.Pairs))
	for i, p := range all.Pairs {
		pairs[i] = Pair{p[0], p[1]}
	}
	return pairs
}

func (all *settingsGoldens) answer(t *testing.T, e *Engine) answered {
	t.Helper()
	tokens, err := e.Tokenize(context.Background(), all.pairs())
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.ScoreWith(context.Background(), all.pairs(), ScoreOptions{AllLabels: true})
	if err != nil {
		t.Fatal(err)
	}
	return answered{tokens, result}
}

// differences names the answers that differ from the golden ones.
func (g *settingsGolden) differences(a answered) []string {
	wrong := map[string]bool{}
	for i, want := range g.Pairs {
		if !slices.Equal(a.tokens[i].IDs, want.IDs) {
			wrong["input_ids"] = true
		}
		if !slices.Equal(a.tokens[i].TypeIDs, want.TypeIDs) {
			wrong["token_type_ids"] = true
		}
		if !close32(toScores(a.result.ByLabel[i]), want.Scores) {
			wrong["scores"] = true
		}
	}
	return slices.Sorted(maps.Keys(wrong))
}

func toScores(list []LabelScore) []float32 {
	scores := make([]float32, len(list))
	for i, l := range list {
		scores[i] = l.Score
	}
	return scores
}

func close32(got, want []float32) bool {
	return slices.EqualFunc(got, want, func(a, b float32) bool { return math.Abs(float64(a)-float64(b)) < 2e-5 })
}

// refusedHere lists the cases that CrossEncoder accepts and mlxrank refuses, with
// a part of the error. A refusal is better than a wrong answer.
var refusedHere = map[string]string{
	"class NoSuchTokenizer":                             "tokenizer_class",
	"class NoSuchTokenizer, odd tokenizer.json":         "tokenizer_class",
	"class of another family":                           "tokenizer_class",
	"template: no special tokens, generic":              "special tokens",
	"post-processor null, generic":                      "special tokens",
	"split_special_tokens":                              "split_special_tokens",
	"split_special_tokens, generic":                     "split_special_tokens",
	"added token with a gap":                            "added_tokens",
	"added token with a gap, generic":                   "added_tokens",
	"config_args":                                       "config_args",
	"processing_kwargs, truncation":                     "processing_kwargs",
	"added token with another id than the vocabulary's": "added_tokens",
}

// takenHere lists the cases that fail in CrossEncoder and work in mlxrank.
var takenHere = []string{
	"max_seq_length 500", // CrossEncoder fails for texts longer than the model's positions
	"max_seq_length 500 beside model_max_length 16",
}

// Settings files must have the same effect as in CrossEncoder on ids, type ids,
// scores and the max length.
func TestSettingsFilesEqualCrossEncoders(t *testing.T) {
	var all settingsGoldens
	readGolden(t, "settings.json.gz", &all)
	var base answered
	for i := range all.Cases {
		g := &all.Cases[i]
		dir := t.TempDir()
		g.write(t, dir, &all)
		config := Config{Model: dir, Device: "cpu"}
		labels := len(g.labels(&all))
		if labels > 1 {
			config.Label = "0"
		}
		e, err := Open(context.Background(), config)
		if want, ok := refusedHere[g.Name]; ok || g.Refused != "" && !slices.Contains(takenHere, g.Name) || g.unsupported(labels) {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v lacks %q (CrossEncoder: %s)", g.Name, err, want, g.Refused)
			}
			if err == nil {
				closeEngine(t, e)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", g.Name, err)
			continue
		}
		got := all.answer(t, e)
		if g.Refused == "" {
			if bad := g.differences(got); len(bad) > 0 {
				t.Errorf("%s: %v differ", g.Name, bad)
			}
			// CrossEncoder.max_seq_length does not include max_length of processing_kwargs.
			if length := min(g.MaxLength, 32); e.Info().MaxLength != length && g.Name != "processing_kwargs" {
				t.Errorf("%s: at most %d tokens, want %d", g.Name, e.Info().MaxLength, length)
			}
		}
		g.checkSoftmax(t, e, &all, labels)
		closeEngine(t, e)
		if i == 0 {
			base = got
		}
		// Negative control: the base model's answers must differ as listed.
		if labels == 1 && g.Refused == "" && (len(g.differences(base)) > 0) != g.shows() {
			t.Errorf("%s: the base model's answers differ in %v, want %v", g.Name, g.differences(base), g.Shows)
		}
	}
}

// shows reports whether the case's answers differ from the base model's by more
// than the last bits of a score.
func (g *settingsGolden) shows() bool { return len(g.Shows) > 0 && g.Name != "model_args" }

func (g *settingsGolden) labels(all *settingsGoldens) map[string]any {
	config := all.Base["config.json"]
	if changed, ok := g.Files["config.json"].(map[string]any); ok {
		config = changed
	}
	return config["id2label"].(map[string]any)
}

// unsupported reports whether the activation is always refused, or has no meaning
// for one label.
func (g *settingsGolden) unsupported(labels int) bool {
	return slices.Contains([]string{"GELU", "LogSoftmax"}, g.Activation) || g.Activation == "Softmax" && labels == 1
}

// checkSoftmax compares the probabilities of several labels with CrossEncoder's
// predict(apply_softmax=True).
func (g *settingsGolden) checkSoftmax(t *testing.T, e *Engine, all *settingsGoldens, labels int) {
	t.Helper()
	if labels == 1 || g.Refused != "" {
		return
	}
	got, err := e.ScoreWith(context.Background(), all.pairs(), ScoreOptions{AllLabels: true, Activation: "softmax"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range g.Pairs {
		if !close32(toScores(got.ByLabel[i]), want.Softmax) {
			t.Errorf("%s: softmax of pair %d is %v, want %v", g.Name, i, got.ByLabel[i], want.Softmax)
		}
		if close32(toScores(got.ByLabel[i]), want.Logits) {
			t.Errorf("%s: control: the logits of pair %d pass as softmax", g.Name, i)
		}
	}
}

// A chosen activation lets a model open whatever activation its files name.
func TestActivationsOpenAnyModel(t *testing.T) {
	var all settingsGoldens
	readGolden(t, "settings.json.gz", &all)
	seen := 0
	for i := range all.Cases {
		g := &all.Cases[i]
		if !strings.HasPrefix(g.Name, "activation ") {
			continue
		}
		dir := t.TempDir()
		g.write(t, dir, &all)
		for _, activation := range []string{"raw", "sigmoid", "softmax"} {
			labels := len(g.labels(&all))
			e, err := Open(context.Background(), Config{Model: dir, Device: "cpu", Activation: Activation(activation), Label: "0"})
			if activation == "softmax" && labels == 1 {
				if err == nil || !strings.Contains(err.Error(), "several labels") {
					t.Errorf("%s: softmax over one label: %v", g.Name, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: --activation %s: %v", g.Name, activation, err)
				continue
			}
			if info := e.Info(); string(info.Activation) != activation {
				t.Errorf("%s: activation %s, want %s", g.Name, info.Activation, activation)
			}
			closeEngine(t, e)
			seen++
		}
	}
	if seen < 60 {
		t.Errorf("%d models were opened, want at least 60", seen)
	}
}

func closeEngine(t *testing.T, e *Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// Documents whose probabilities both round to 1 are ordered by their log-odds,
// even if the label's own logit has the opposite order.
func TestSoftmaxOrder(t *testing.T) {
	t.Parallel()
	s := scorer{function: "softmax", label: 1}
	near, nearOdds := s.score([]float32{-20, 60, -30})
	far, farOdds := s.score([]float32{-90, 50, -80})
	if near != 1 || far != 1 || farOdds <= nearOdds {
		t.Errorf("scores %v and %v, log-odds %v and %v", near, far, nearOdds, farOdds)
	}
	for _, logits := range [][]float32{{0, 0}, {1, 2, 3}, {-1e30, 1e30}, {88, -88}, {3e38, 3e38}} {
		sum := 0.0
		for label := range logits {
			score, odds := (scorer{function: "softmax", label: label}).score(logits)
			if sum += float64(score); Sigmoid(odds) != score && math.Abs(float64(Sigmoid(odds)-score)) > 1e-7 {
				t.Errorf("%v: score %v, log-odds %v", logits, score, odds)
			}
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Errorf("%v: probabilities sum to %v", logits, sum)
		}
	}
}
