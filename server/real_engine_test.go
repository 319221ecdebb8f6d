package server

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// openTiny opens a small model with a maximum length of 128 tokens.
func openTiny(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	cfg.Model = tinyDir(t)
	return open(t, cfg)
}

func tinyDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	return dir
}

func openBuiltin(t testing.TB) *engine.Engine {
	t.Helper()
	return open(t, engine.Config{Model: weights.Builtin})
}

func open(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	cfg.Device = "cpu"
	e, err := engine.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// Two real models answer their own requests on every API, alone and while both are unloaded
// for each other.
func TestTwoRealModels(t *testing.T) {
	dirs, engines := map[string]string{}, map[string]*engine.Engine{}
	for seed, name := range []string{"first", "second"} {
		dirs[name] = t.TempDir()
		weightstest.Write(t, dirs[name], weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: uint64(7 + seed)})
		engines[name] = open(t, engine.Config{Model: dirs[name]})
	}
	documents := []string{"water", "a river and a city", "history", "the page of an image editor"}
	want := map[string][]float32{}
	for name, e := range engines {
		ranking, err := e.Rerank(t.Context(), "the city", documents, engine.RerankOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want[name] = ranking.Logits
	}
	// Control: an answer of the wrong model would be found.
	for i := range documents {
		if math.Abs(float64(engine.Sigmoid(want["first"][i])-engine.Sigmoid(want["second"][i]))) < 1e-4 {
			t.Fatalf("both models score document %d alike: %v and %v", i, want["first"][i], want["second"][i])
		}
	}
	bytes := engines["first"].Info().WeightBytes
	for _, limit := range []int64{0, bytes + bytes/2} { // of which the second has room for one model
		models, err := NewModels(t.Context(), ModelsConfig{
			Names: []string{"first", "second"}, Lazy: true, MaxBytes: limit,
			Load: func(ctx context.Context, name string) (Engine, error) {
				return engine.Open(ctx, engine.Config{Model: dirs[name], Device: "cpu"})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(t, Config{Models: models})
		for _, a := range apis {
			for name, logits := range want {
				body := strings.Replace(a.body("the city", documents...), "{", `{"model": "`+name+`", `, 1)
				for _, item := range answers(t, a.path, post(s, a.path, body)) {
					if want := float64(engine.Sigmoid(logits[item.index])); math.Abs(item.score-want) > 1e-6 {
						t.Errorf("%s: model %s scores document %d %v, want %v", a.path, name, item.index, item.score, want)
					}
				}
			}
		}
		loaded := 0
		for _, served := range models.List() {
			if served.State == "loaded" {
				loaded++
			}
		}
		if want := map[bool]int{true: 2, false: 1}[limit == 0]; loaded != want {
			t.Errorf("limit %d: %d models are loaded, want %d", limit, loaded, want)
		}
		if err := models.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Every API answers the engine's scores, whatever its activation.
func TestScoresAreTheEngines(t *testing.T) {
	for _, activation := range []engine.Activation{engine.Raw, engine.SigmoidScores} {
		e := openTiny(t, engine.Config{Activation: activation})
		s := newServer(t, Config{Engine: e})
		r := rand.New(rand.NewPCG(1, 2))
		documents := make([]string, 300)
		for i := range documents {
			documents[i] = randomText(r, 60)
		}
		ranking, err := e.Rerank(context.Background(), "the city", documents, engine.RerankOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range apis {
			got := answers(t, a.path, post(s, a.path, a.body("the city", documents...)))
			for i, item := range got {
				want := ranking.Logits[item.index]
				if math.Abs(item.score-1/(1+math.Exp(-float64(want)))) > 1e-6 {
					t.Errorf("%s: %+v, the logit is %v", a.path, item, want)
				}
				if !a.keepsOrder() && item.index != ranking.Items[i].Index {
					t.Errorf("%s: rank %d has document %d, want %d", a.path, i, item.index, ranking.Items[i].Index)
				}
			}
			if len(got) != len(documents) {
				t.Errorf("%s: %d results", a.path, len(got))
			}
		}
	}
}

// Every API scores long documents by their best passages if a request asks for it,
// under the old names too, rejects other words, and cuts them otherwise.
func TestLongDocuments(t *testing.T) {
	e := openTiny(t, engine.Config{MaxLength: 32})
	s := newServer(t, Config{Engine: e})
	r := rand.New(rand.NewPCG(3, 4))
	documents := []string{randomText(r, 400), "water", randomText(r, 300)}
	for _, test := range []struct {
		fields string
		long   engine.Long
	}{
		{``, ""}, {`"long_documents": null, `, ""}, {`"long_documents": "truncate", `, engine.Truncate}, {`"long_documents": "passages", `, engine.Passages},
		{`"long": "truncate", `, engine.Truncate}, {`"long": "window", `, engine.Passages}, {`"long_documents": "window", `, engine.Passages}, {`"long": "passages", `, engine.Passages},
	} {
		ranking, err := e.Rerank(t.Context(), "the city", documents, engine.RerankOptions{Long: test.long})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range apis {
			body := strings.Replace(a.body("the city", documents...), "{", "{"+test.fields, 1)
			for _, item := range answers(t, a.path, post(s, a.path, body)) {
				if want := engine.Sigmoid(ranking.Logits[item.index]); math.Abs(item.score-float64(want)) > 1e-6 {
					t.Errorf("%s, %q: %+v, want %v", a.path, test.fields, item, want)
				}
			}
		}
		if cut := ranking.Truncated > 0; cut == (test.long == engine.Passages) {
			t.Errorf("long %q: %d pairs are cut", test.long, ranking.Truncated)
		}
	}
	for _, a := range apis {
		for _, field := range []string{"long_documents", "long"} {
			body := strings.Replace(a.body("the city", documents...), "{", `{"`+field+`": "fold", `, 1)
			if got := post(s, a.path, body); got.Code != 422 {
				t.Errorf("%s: an unknown choice of %s is answered %d: %s", a.path, field, got.Code, got.Body)
			}
		}
	}
}

// The side that is cut decides the score of a long document.
func TestTruncationDirections(t *testing.T) {
	e := openTiny(t, engine.Config{})
	s := newServer(t, Config{Engine: e})
	head, tail := strings.Repeat("water ", 150), strings.Repeat("city ", 150)
	ask := func(body string) float64 {
		t.Helper()
		return answers(t, "/rerank", post(s, "/rerank", body))[0].score
	}
	call := func(text, more string) string {
		return `{"query": "london", "raw_scores": true, "texts": [` + quoted(text) + `]` + more + `}`
	}
	for side, like := range map[string]string{"right": head, "left": tail} {
		got, want := ask(call(head+tail, `, "truncation_direction": "`+side+`"`)), ask(call(like, ""))
		if got != want {
			t.Errorf("cut on the %s: %v, want %v", side, got, want)
		}
	}
	if ask(call(head, "")) == ask(call(tail, "")) {
		t.Error("both ends score the same: the test shows nothing")
	}
	checkFailure(t, s, apis[0], row{status: 422, kind: kindValidation, message: "the model takes 128"}, call(head, `, "truncate": false`))
	if executed := e.Stats().Pairs; executed != 6 {
		t.Errorf("%d pairs were executed, want 6", executed)
	}
	for n, want := range map[string]string{"5": strings.Repeat("water ", 5), "4096": head} {
		path := "/v2/rerank"
		got := answers(t, path, post(s, path, `{"query": "london", "documents": [`+quoted(head)+`], "max_tokens_per_doc": `+n+`}`))
		whole := answers(t, path, post(s, path, `{"query": "london", "documents": [`+quoted(want)+`]}`))
		if got[0].score != whole[0].score {
			t.Errorf("%s tokens of a document: %v, want %v", n, got[0].score, whole[0].score)
		}
	}
}

// A request that exceeds the queue executes nothing.
func TestQueueLimits(t *testing.T) {
	e := openTiny(t, engine.Config{QueueTokens: 400})
	s := newServer(t, Config{Engine: e})
	long := strings.Repeat("water ", 40)
	for _, a := range apis {
		checkFailure(t, s, a, row{status: 413, kind: kindValidation, message: "the queue holds 400"}, a.body("q", long+"1", long+"2", long+"3", long+"4"))
	}
	if executed := e.Stats().Pairs; executed != 0 {
		t.Errorf("%d pairs were executed", executed)
	}
}

// checkLogOdds fails unless an API answers in the order of the ranking, with raw scores and
// without, and raw scores are the logits of the ranking. An API that keeps the order of the
// documents is checked for its scores only.
func checkLogOdds(t *testing.T, s *Server, a api, documents []string, ranking *engine.Ranking) {
	t.Helper()
	body := a.body("the city", documents...)
	for _, fields := range []string{`"raw_scores": false`, `"raw_scores": true`, `"use_activation": false`} {
		raw := fields != `"raw_scores": false`
		for i, item := range answers(t, a.path, post(s, a.path, withField(body, fields))) {
			if !a.keepsOrder() && item.index != ranking.Items[i].Index {
				t.Fatalf("%s %s: result %d is document %d, want %d", a.path, fields, i, item.index, ranking.Items[i].Index)
			}
			want := float64(ranking.Logits[item.index])
			if !raw {
				want = 1 / (1 + math.Exp(-want))
			}
			if math.Abs(item.score-want) > 1e-5 {
				t.Errorf("%s %s: document %d has score %v, want %v", a.path, fields, item.index, item.score, want)
			}
		}
	}
}

// With several labels every API answers and ranks by a probability, the softmax over
// the labels. /predict answers all labels, best first. raw_scores asks for logits: the
// log-odds, which keep the order, and on /predict the classifier's.
func TestSeveralLabels(t *testing.T) {
	dir := t.TempDir()
	config := weightstest.Tiny(32, 2, 1)
	config["id2label"] = map[string]any{"0": "no", "1": "yes", "2": "maybe"}
	weightstest.Write(t, dir, weightstest.Spec{Config: config, Seed: 7})
	e := open(t, engine.Config{Model: dir, Label: "yes"})
	s := newServer(t, Config{Engine: e})
	r := rand.New(rand.NewPCG(3, 4))
	documents := make([]string, 40)
	pairs := make([]engine.Pair, len(documents))
	for i := range documents {
		documents[i] = randomText(r, 30)
		pairs[i] = engine.Pair{Query: "the city", Document: documents[i]}
	}
	logits, err := e.ScoreWith(t.Context(), pairs, engine.ScoreOptions{Activation: "raw", AllLabels: true})
	if err != nil {
		t.Fatal(err)
	}
	softmax := func(i, label int) float64 {
		sum := 0.0
		for _, l := range logits.ByLabel[i] {
			sum += math.Exp(float64(l.Logit))
		}
		return math.Exp(float64(logits.ByLabel[i][label].Logit)) / sum
	}
	ranking, err := e.Rerank(t.Context(), "the city", documents, engine.RerankOptions{ScoreOptions: engine.ScoreOptions{Activation: engine.Softmax}})
	if err != nil {
		t.Fatal(err)
	}
	byLogit := 0
	for _, a := range apis {
		if a.path != "/predict" {
			checkLogOdds(t, s, a, documents, ranking)
		}
		got := answers(t, a.path, post(s, a.path, a.body("the city", documents...)))
		for i, item := range got {
			if a.path == "/predict" { // its first label is the best, not the one asked for
				continue
			}
			if want := softmax(item.index, 1); math.Abs(item.score-want) > 1e-6 {
				t.Errorf("%s: %+v, want %v", a.path, item, want)
			}
			if i > 0 && !a.keepsOrder() && got[i-1].score < item.score {
				t.Errorf("%s: %v is ranked ahead of %v", a.path, got[i-1], item)
			}
			if i > 0 && logits.Logits[got[i-1].index] < logits.Logits[item.index] {
				byLogit++
			}
		}
	}
	if byLogit == 0 {
		t.Error("the order by the label's logit is the same: the test shows nothing")
	}
	var predictions [][]teiPrediction
	for _, raw := range []bool{false, true} {
		body := fmt.Sprintf(`{"inputs": [["the city", %s], ["the city", %s]], "raw_scores": %t}`, quoted(documents[0]), quoted(documents[1]), raw)
		answer := post(s, "/predict", body)
		if err := json.Unmarshal(answer.Body.Bytes(), &predictions); err != nil {
			t.Fatalf("%s: %v", answer.Body, err)
		}
		for i, list := range predictions {
			if len(list) != 3 || list[0].Score < list[1].Score || list[1].Score < list[2].Score {
				t.Fatalf("labels %+v, want three, the best first", list)
			}
			for _, p := range list {
				label := slices.Index([]string{"no", "yes", "maybe"}, p.Label)
				want := softmax(i, label)
				if raw {
					want = float64(logits.ByLabel[i][label].Logit)
				}
				if math.Abs(p.Score-want) > 1e-6 {
					t.Errorf("raw %v: %+v, want %v", raw, p, want)
				}
			}
		}
	}
}
