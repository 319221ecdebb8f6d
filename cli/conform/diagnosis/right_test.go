package diagnosis

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// tiny opens a small random model after changing its files.
func tiny(t *testing.T, change func(dir string), cfg engine.Config) *engine.Engine {
	t.Helper()
	cfg.Model = filepath.Join(t.TempDir(), "tiny")
	weightstest.Write(t, cfg.Model, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	if change != nil {
		change(cfg.Model)
	}
	return open(t, cfg)
}

func checkRight(t *testing.T, r *Report, api string) {
	t.Helper()
	if r.Verdict != Right || len(r.Faults) > 0 || r.API != api || r.Compared != len(r.Pairs) || r.MaxScore > 1e-5 || len(r.Unexplained()) > 0 {
		t.Errorf("%s: %s, %v, %d of %d pairs, off by %v, API %s", api, r.Verdict, r.Faults, r.Compared, len(r.Pairs), r.MaxScore, r.API)
	}
}

// TestRight accepts a right server of each API, which auto finds.
func TestRight(t *testing.T) {
	e := tiny(t, nil, engine.Config{})
	l := newLocal(e, func(int) {})
	right := kept(asIs(e, engine.ScoreOptions{}))
	for _, api := range APIs[1:] {
		for _, ask := range []string{Auto, api} {
			checkRight(t, compare(t, l, &fakeServer{logits: right, format: api}, ask), api)
		}
	}
	// Results in the order of the documents are right too.
	unsorted := func(_ []string, scores []float64) (hits []hit) {
		for i, x := range scores {
			hits = append(hits, hit{i, x})
		}
		return hits
	}
	r := compare(t, l, &fakeServer{logits: right, attach: unsorted}, Auto)
	checkRight(t, r, "tei")
	if !strings.Contains(strings.Join(r.Notes, "\n"), "not sorted") {
		t.Errorf("notes %q", r.Notes)
	}
}

// TestOwnServer accepts mlxrank's server in each of its formats, whatever the model's
// activation is.
func TestOwnServer(t *testing.T) {
	for _, activation := range []engine.Activation{engine.SigmoidScores, engine.Raw} {
		e := tiny(t, nil, engine.Config{Activation: activation})
		s, err := server.New(server.Config{Engine: e})
		if err != nil {
			t.Fatal(err)
		}
		l := newLocal(e, func(int) {})
		for _, api := range []string{"tei", "jina", "cohere", "vllm"} {
			checkRight(t, compare(t, l, s.Handler(), api), api)
		}
		checkRight(t, compare(t, l, s.Handler(), Auto), "tei")
	}
}

// TestRawModel accepts logits and their sigmoid of a model without activation.
func TestRawModel(t *testing.T) {
	e := tiny(t, nil, engine.Config{Activation: engine.Raw})
	l := newLocal(e, func(int) {})
	right := kept(asIs(e, engine.ScoreOptions{}))
	for want, scores := range map[string]func([]float64) []float64{
		"scores are logits":                    scored(func(x float64) float64 { return x }),
		"scores are the sigmoid of the logits": nil,
	} {
		r := compare(t, l, &fakeServer{logits: right, scores: scores}, Auto)
		checkRight(t, r, "tei")
		if r.Form != want {
			t.Errorf("%q, want %q", r.Form, want)
		}
	}
}

// edit changes the normalizer of a model's tokenizer.
func edit(t *testing.T, dir string, change func(normalizer map[string]any)) {
	t.Helper()
	file := weightstest.Tokenizer(1000)
	change(file["normalizer"].(map[string]any))
	weightstest.WriteJSON(t, filepath.Join(dir, "tokenizer.json"), file)
	weightstest.WriteJSON(t, filepath.Join(dir, "tokenizer_config.json"), map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128})
}

// TestSpelling names what a server's tokenizer does differently.
func TestSpelling(t *testing.T) {
	uncased := func(dir string) { edit(t, dir, func(map[string]any) {}) }
	cased := func(dir string) { edit(t, dir, func(n map[string]any) { n["lowercase"] = false }) }
	accented := func(dir string) { edit(t, dir, func(n map[string]any) { n["strip_accents"] = false }) }
	none := engine.ScoreOptions{}
	for _, test := range []struct {
		name          string
		right, server func(dir string)
		lower         bool
		want          fault
	}{
		{"lower-casing is missing", uncased, cased, false, caseKept},
		{"accents are kept", uncased, accented, false, accentsKept},
		{"lower-cased", cased, cased, true, lowerCased},
	} {
		t.Run(test.name, func(t *testing.T) {
			theirs := asIs(tiny(t, test.server, engine.Config{}), none)
			if test.lower {
				theirs = withTexts(tiny(t, test.server, engine.Config{}), none, func(q, d string) (string, string) {
					return strings.ToLower(q), strings.ToLower(d)
				})
			}
			r := compare(t, newLocal(tiny(t, test.right, engine.Config{}), func(int) {}), &fakeServer{logits: theirs}, Auto)
			if got := names(r); !slices.Equal(got, []string{string(test.want)}) {
				t.Errorf("%v, want %s", r.Faults, test.want)
			}
		})
	}
}

// TestLongerLimit finds a server that reads more than the model takes.
func TestLongerLimit(t *testing.T) {
	long := tiny(t, nil, engine.Config{})
	short := tiny(t, nil, engine.Config{MaxLength: 64})
	middle := tiny(t, nil, engine.Config{MaxLength: 90})
	l := newLocal(short, func(int) {})
	l.openLong = func() (*engine.Engine, error) { return long, nil }
	theirs := asIs(long, engine.ScoreOptions{})
	for _, test := range []struct {
		name   string
		logits source
		want   fault
		words  string
	}{
		{"longer", theirs, longerLimit, "limit of 128 tokens"},
		{"a bit longer", asIs(middle, engine.ScoreOptions{}), longerLimit, "limit of 90 tokens"},
		{"other scores of long documents", lowered(asIs(short, engine.ScoreOptions{})), unknown, "explains 6 of"},
		{"longer, other scores of long documents", lowered(theirs), unknown, "explains"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := compare(t, l, &fakeServer{logits: test.logits}, Auto)
			if got := names(r); !slices.Equal(got, []string{string(test.want)}) || !strings.Contains(r.Faults[0].Text, test.words) {
				t.Errorf("%v, want %s with %q", r.Faults, test.want, test.words)
			}
		})
	}
}

// lowered scores long documents lower.
func lowered(s source) source {
	return func(query string, documents []string) ([]float64, error) {
		logits, err := s(query, documents)
		for i := range logits {
			if len(documents[i]) >= 400 {
				logits[i] -= 0.2
			}
		}
		return logits, err
	}
}

// TestRefusals leaves out what a server refuses.
func TestRefusals(t *testing.T) {
	e := tiny(t, nil, engine.Config{})
	l := newLocal(e, func(int) {})
	right := kept(asIs(e, engine.ScoreOptions{}))
	r := compare(t, l, &fakeServer{logits: func(query string, documents []string) ([]float64, error) {
		if slices.ContainsFunc(append(documents, query), engine.IsEmpty) {
			return nil, errors.New("a text is empty")
		}
		return right(query, documents)
	}}, Auto)
	if r.Verdict != Right || r.Refused != 3 || r.Compared != len(r.Pairs)-3 {
		t.Errorf("%s, %v, %d refused", r.Verdict, r.Faults, r.Refused)
	}
	for _, p := range r.Pairs {
		if refused := strings.Contains(p.Refused, "a text is empty"); refused != (p.Answered == nil) || refused && p.Kind != "empty" {
			t.Errorf("%+v", p)
		}
	}
	r = compare(t, l, &fakeServer{logits: func(query string, documents []string) ([]float64, error) {
		if len(documents) > 2 || strings.HasPrefix(query, "what") || strings.HasPrefix(query, "why") {
			return nil, errors.New("no")
		}
		return right(query, documents)
	}}, Auto)
	if r.Verdict != Undecided || !strings.Contains(r.Reason, "refused") {
		t.Errorf("%s, %s", r.Verdict, r.Reason)
	}
}

// TestOnlyOrder judges a server without scores by its order.
func TestOnlyOrder(t *testing.T) {
	e := tiny(t, nil, engine.Config{})
	l := newLocal(e, func(int) {})
	for _, test := range []struct {
		sign float64
		want string
	}{{1, Undecided}, {-1, Wrong}} {
		h := func(w http.ResponseWriter, r *http.Request) {
			var body struct{ Query, Documents any }
			if r.URL.Path != "/v1/rerank" || json.NewDecoder(r.Body).Decode(&body) != nil {
				http.NotFound(w, r)
				return
			}
			query, _ := body.Query.(string)
			var documents []string
			for _, d := range body.Documents.([]any) {
				documents = append(documents, d.(string))
			}
			result, err := e.Score(r.Context(), pairsOf(query, documents))
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			scores := float64s(result.Logits)
			for i := range scores {
				scores[i] *= test.sign
			}
			var results []map[string]any
			for _, hit := range sortedHits(nil, scores) {
				results = append(results, map[string]any{"index": hit.index, "document": documents[hit.index]})
			}
			reply(w, map[string]any{"results": results})
		}
		if r := compare(t, l, http.HandlerFunc(h), Auto); r.Verdict != test.want {
			t.Errorf("sign %v: %s, %s, %v", test.sign, r.Verdict, r.Reason, r.Faults)
		}
	}
}

// TestBusy sends a request again that is refused for now, and gives up in the end.
func TestBusy(t *testing.T) {
	e := tiny(t, nil, engine.Config{})
	fake := &fakeServer{logits: asIs(e, engine.ScoreOptions{})}
	for _, always := range []bool{false, true} {
		var calls atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && (calls.Add(1)%5 == 3 || always) {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			fake.ServeHTTP(w, r)
		}))
		r, err := newLocal(e, func(int) {}).compare(t.Context(), Server{URL: s.URL, API: "tei"})
		s.Close()
		if always {
			if err == nil || !strings.Contains(err.Error(), "429") {
				t.Errorf("%v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		checkRight(t, r, "tei")
	}
}

// TestReadingIsTheEngines checks that the zero reading makes the engine's tokens.
func TestReadingIsTheEngines(t *testing.T) {
	for _, cfg := range []engine.Config{{}, {MaxLength: 63}, {MaxLength: 64}} {
		e := tiny(t, nil, cfg)
		l := newLocal(e, func(int) {})
		list, err := l.groups()
		if err != nil {
			t.Fatal(err)
		}
		truncated := 0
		for _, group := range list {
			if len(group) > 16 {
				t.Errorf("%d documents in a group", len(group))
			}
			got, err := l.join(reading{}, group)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range group {
				want, err := e.Tokenize(t.Context(), []engine.Pair{{Query: p.Query, Document: p.Document}})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got[i].ids, want[0].IDs) || !slices.Equal(got[i].types, want[0].TypeIDs) {
					t.Errorf("%.50q, %.50q: %v, want %v", p.Query, p.Document, got[i], want[0])
				}
				if p.Kind == "truncated" && want[0].Truncated {
					truncated++
				}
			}
		}
		if truncated < 9 {
			t.Errorf("maximum length %d: %d pairs are truncated", e.Info().MaxLength, truncated)
		}
	}
}
