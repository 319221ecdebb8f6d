package diagnosis

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

// TestIncompleteAnswers names answers that lack results or have an index twice. The
// scores are compared all the same.
func TestIncompleteAnswers(t *testing.T) {
	l := newLocal(tiny(t, nil, engine.Config{}), func(int) {})
	right := kept(asIs(l.engine, engine.ScoreOptions{}))
	for _, test := range []struct {
		name   string
		attach func(documents []string, scores []float64) []hit
		want   fault
		words  string
	}{
		{"three results", func(d []string, scores []float64) []hit {
			hits := sortedHits(d, scores)
			return hits[:min(len(hits), 3)]
		}, resultsMissing, "only 3 results for 8 documents; the request asks for all with top_n"},
		{"one index", func(d []string, scores []float64) []hit {
			hits := sortedHits(d, scores)
			for i := range hits {
				hits[i].index = 0
			}
			return hits
		}, wrongIndex, "two results have the index 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := compare(t, l, &fakeServer{logits: right, attach: test.attach, format: "cohere"}, Auto)
			if got := names(r); r.Verdict != Wrong || !slices.Equal(got, []string{string(test.want)}) || !strings.Contains(r.Faults[0].Text, test.words) {
				t.Errorf("%s %v, want %s with %q", r.Verdict, r.Faults, test.want, test.words)
			}
			if r.Compared != len(r.Pairs) || len(r.Unexplained()) > 0 {
				t.Errorf("%d of %d pairs, %v", r.Compared, len(r.Pairs), r.Unexplained())
			}
		})
	}
}

// TestNullScores checks that the report has what a server without scores answered.
func TestNullScores(t *testing.T) {
	l := newLocal(tiny(t, nil, engine.Config{}), func(int) {})
	h := func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Documents []string }
		if r.URL.Path != "/v1/rerank" || json.NewDecoder(r.Body).Decode(&body) != nil {
			http.NotFound(w, r)
			return
		}
		results := []map[string]any{}
		for i := range body.Documents {
			results = append(results, map[string]any{"index": i, "relevance_score": nil})
		}
		reply(w, map[string]any{"results": results})
	}
	r := compare(t, l, http.HandlerFunc(h), "jina")
	const want = `86 of 86 pairs were answered without a score: "relevance_score" is null`
	if notes := strings.Join(r.Notes, "\n"); !strings.Contains(notes, want) || strings.Contains(notes, "refused") || !strings.Contains(r.Reason, "is null") {
		t.Errorf("%q, %q", r.Reason, notes)
	}
}

// TestFormOfUnknown gives no form of scores that it does not explain.
func TestFormOfUnknown(t *testing.T) {
	l := newLocal(tiny(t, nil, engine.Config{}), func(int) {})
	wave := scored(func(x float64) float64 { return 0.5 + 0.5*math.Sin(5*x) })
	r := compare(t, l, &fakeServer{logits: asIs(l.engine, engine.ScoreOptions{}), scores: wave}, Auto)
	if got := names(r); !slices.Equal(got, []string{string(unknown)}) || r.Form != "" {
		t.Errorf("%v, scores %q", r.Faults, r.Form)
	}
}

// TestRescaled names scores that are a line over the right scores or logits, or a
// constant.
func TestRescaled(t *testing.T) {
	l := newLocal(tiny(t, nil, engine.Config{}), func(int) {})
	right := kept(asIs(l.engine, engine.ScoreOptions{}))
	for _, test := range []struct {
		name  string
		score func(logit float64) float64
		want  fault
		words string
	}{
		{"constant", func(float64) float64 { return 0.3 }, constant, "all scores are 0.3"},
		{"huge constant", func(float64) float64 { return 1e38 }, constant, "all scores are 1e+38"},
		{"per cent", func(x float64) float64 { return 100 * logistic(x) }, rescaled, "scores are 100 * the right score, which keeps the order"},
		{"distance", func(x float64) float64 { return 1 - logistic(x) }, rescaled, "scores are -1 * the right score + 1, which reverses the order"},
		{"nearly right", func(x float64) float64 { return 0.99 * logistic(x) }, rescaled, "scores are 0.99 * the right score, which keeps"},
		{"calibrated", func(x float64) float64 { return logistic((x - 0.5) / 2) }, rescaled, "scores are the sigmoid of 0.5 * the logit - 0.25, which keeps"},
		{"logits", func(x float64) float64 { return 3*x - 1 }, rescaled, "scores are 3 * the logit - 1, which keeps"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := compare(t, l, &fakeServer{logits: right, scores: scored(test.score)}, Auto)
			if got := names(r); r.Verdict != Wrong || !slices.Equal(got, []string{string(test.want)}) || !strings.Contains(r.Faults[0].Text, test.words) || len(r.Unexplained()) > 0 {
				t.Errorf("%s %v, %d unexplained, want %s with %q", r.Verdict, r.Faults, len(r.Unexplained()), test.want, test.words)
			}
		})
	}
}

// TestBadAnswers checks that errors name the address, and in plain words an answer that
// is no API's answer.
func TestBadAnswers(t *testing.T) {
	l := newLocal(tiny(t, nil, engine.Config{}), func(int) {})
	for _, test := range []struct {
		name   string
		status int
		header string // a name and a value
		body   string
		words  []string
	}{
		{"HTML", 200, "", "<html><body>Welcome</body></html>", []string{"no known format", "it is not JSON, and begins with \"<html><body>Welcome"}},
		{"list", 200, "", "[1, 2]", []string{"it is a list, expected an object with the field \"results\""}},
		{"object", 200, "", `{"results": {"a": 1}}`, []string{"the results are an object, expected a list"}},
		{"no results", 200, "", `{"data": []}`, []string{"it lacks the field \"results\""}},
		{"number", 200, "", `{"results": [1]}`, []string{"result 0 is the number 1, expected an object"}},
		{"score as text", 200, "", `{"results": [{"index": 0, "relevance_score": "0.5"}]}`, []string{"result 0 has as score the text \"0.5\", expected a number"}},
		{"index as text", 200, "", `{"results": [{"index": "0", "relevance_score": 0.5}]}`, []string{"has as index the text \"0\", expected a whole number from 0 to 1"}},
		{"index too large", 200, "", `{"results": [{"index": 7, "relevance_score": 0.5}]}`, []string{"has as index the number 7, expected a whole number from 0 to 1"}},
		{"redirect", 302, "Location http://127.0.0.1:9/x", "", []string{"no known API", "status 302 Found, a redirect to http://127.0.0.1:9/x", "--url"}},
		{"error", 500, "", `{"detail": "boom"}`, []string{"no known API", `status 500 Internal Server Error: {"detail": "boom"}`}},
		{"too short", 200, "Content-Length 100", `{"results": []}`, []string{"/v2/rerank broke off after 15 bytes: the server closed the connection too early"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if name, value, ok := strings.Cut(test.header, " "); ok {
					w.Header().Set(name, value)
				}
				w.WriteHeader(test.status)
				if _, err := io.WriteString(w, test.body); err != nil {
					t.Error(err)
				}
			}))
			defer s.Close()
			_, err := l.compare(t.Context(), Server{URL: s.URL, API: "cohere", Fallback: "m"})
			if err == nil {
				t.Fatal("no error")
			}
			for _, word := range append(test.words, s.URL) {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q lacks %q", err, word)
				}
			}
			if strings.Contains(err.Error(), "unmarshal") || strings.Contains(err.Error(), "Go value") {
				t.Errorf("%q has words of Go", err)
			}
		})
	}
}
