package conform

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/conform/diagnosis"
	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/lab"
)

// serve starts a server with Jina's API that has token type ids 0 if zero is set. It
// wants a key, and lists the model "served", which requests must name.
func serve(t *testing.T, model string, zero bool) string {
	t.Helper()
	e := clitest.OpenEngine(t, model)
	score := func(r *http.Request, query string, documents []string) ([]float32, error) {
		pairs := make([]engine.Pair, len(documents))
		for i, d := range documents {
			pairs[i] = engine.Pair{Query: query, Document: d}
		}
		tokens, err := e.Tokenize(r.Context(), pairs)
		if err != nil {
			return nil, err
		}
		for i := range tokens {
			if zero {
				tokens[i].TypeIDs = make([]int32, len(tokens[i].IDs))
			}
		}
		result, err := e.ScoreRaw(r.Context(), lab.Key{}, tokens)
		if err != nil {
			return nil, err
		}
		return result.Scores, nil
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model, Query string
			Documents    []string
		}
		switch {
		case r.Header.Get("Authorization") != "Bearer of-a-file":
			http.Error(w, "no key", http.StatusUnauthorized)
			return
		case r.URL.Path == "/base/v1/models":
			reply(w, map[string]any{"data": []map[string]any{{"id": "served"}}})
			return
		case r.URL.Path != "/base/v1/rerank":
			http.NotFound(w, r)
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Model != "served" {
			http.Error(w, "unknown model", http.StatusBadRequest)
			return
		}
		scores, err := score(r, body.Query, body.Documents)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		var results []map[string]any
		for i, x := range scores {
			results = append(results, map[string]any{"index": i, "relevance_score": x})
		}
		reply(w, map[string]any{"results": results})
	}))
	t.Cleanup(s.Close)
	return s.URL + "/base/"
}

func reply(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func TestConform(t *testing.T) {
	model, key := clitest.TinyModel(t), clitest.WriteFile(t, filepath.Join(t.TempDir(), "key"), "of-a-file\n")
	right, wrong := serve(t, model, false), serve(t, model, true)
	args := func(url string, more ...string) []string {
		return append([]string{"conform", "--url", url, "--model", model, "--api-key-file", key, "--log-level", "error"}, more...)
	}
	r := mlxrank.MustRun(t, "", args(right)...)
	for _, word := range []string{"API jina at /base/v1/rerank", "verdict   right: 86 scores", "not sorted"} {
		if !strings.Contains(r.Out, word) {
			t.Errorf("lacks %q:\n%s", word, r.Out)
		}
	}
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	r = mlxrank.Run(t, "", args(wrong)...)
	if r.Status != command.ExitFailure || !strings.Contains(r.Out, "fault     token type ids are all 0") || !strings.HasSuffix(r.Out, "verdict   wrong\n") {
		t.Errorf("status %d\n%s%s", r.Status, r.Out, r.ErrOut)
	}
	r = mlxrank.MustRun(t, "", args(wrong, "--accept", "rounding,token_type_ids_zero")...)
	if !strings.Contains(r.Out, "accepted  token type ids are all 0") || !strings.Contains(r.Out, "verdict   right") {
		t.Errorf("got %s", r.Out)
	}
	r = mlxrank.Run(t, "", args(wrong, "--json")...)
	var report diagnosis.Report
	if err := json.Unmarshal([]byte(r.Out), &report); err != nil {
		t.Fatal(err)
	}
	if r.Status != command.ExitFailure || report.Verdict != "wrong" || len(report.Faults) != 1 || report.Faults[0].Name != "token_type_ids_zero" || report.Asked != "served" || len(report.Pairs) != 86 {
		t.Errorf("status %d, %+v", r.Status, report)
	}
}

func TestConformUndecided(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	url := serve(t, model, false)
	empty := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(empty.Close)
	for _, test := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"no URL", nil, []string{"--url is missing"}},
		{"not a URL", []string{"--url", "localhost:8080"}, []string{"not a URL", "http://127.0.0.1:8080"}},
		{"unknown API", []string{"--url", url, "--api", "ollama"}, []string{"ollama", "auto, tei, jina, cohere, vllm, voyage"}},
		{"unknown fault", []string{"--url", url, "--accept", "all"}, []string{"--accept", `"all"`, "rounding"}},
		{"argument", []string{"--url", url, "more"}, []string{"takes no argument"}},
		{"half precision", []string{"--url", url, "--dtype", "float16"}, []string{"--dtype float16", "float32"}},
		{"no time", []string{"--url", url, "--timeout", "-1s"}, []string{"--timeout"}},
		{"no key's file", []string{"--url", url, "--api-key-file", filepath.Join(dir, "none")}, []string{"none", "no such file"}},
		{"no key", []string{"--url", url}, []string{"401", "--api-key-file"}},
		{"no server", []string{"--url", "http://127.0.0.1:1"}, []string{"127.0.0.1:1", "cannot be used"}},
		{"no API", []string{"--url", empty.URL}, []string{empty.URL + " answers in no known API", "tei at /rerank", "voyage at /v1/rerank", "404"}},
		{"no model", []string{"--url", url, "--model", filepath.Join(dir, "none")}, []string{"none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"conform"}, test.args...)
			if test.name != "no model" {
				args = append(args, "--model", model)
			}
			clitest.CheckFailure(t, mlxrank.Run(t, "", args...), exitUndecided, test.words...)
		})
	}
}
