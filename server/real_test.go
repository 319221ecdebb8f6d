package server

import (
	"context"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// openTiny opens a small model, of 128 tokens at most.
func openTiny(t testing.TB, cfg engine.Config) *engine.Engine {
	t.Helper()
	cfg.Model = t.TempDir()
	weightstest.Write(t, cfg.Model, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	return open(t, cfg)
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

// Every API answers the scores that the engine gives, whatever its activation.
func TestScoresAreTheEngines(t *testing.T) {
	for _, activation := range []string{"raw", "sigmoid"} {
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
					t.Errorf("%s: place %d has document %d, want %d", a.path, i, item.index, ranking.Items[i].Index)
				}
			}
			if len(got) != len(documents) {
				t.Errorf("%s: %d results", a.path, len(got))
			}
		}
	}
}

// Which end is cut decides what a long document says.
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
		t.Error("both ends score the same: nothing is shown")
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

// A request that the queue cannot hold, now or ever, executes nothing.
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
