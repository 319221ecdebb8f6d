package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// withField adds fields to a body.
func withField(body, fields string) string { return body[:len(body)-1] + ", " + fields + "}" }

// The earlier one of the header's and the body's deadline counts, from the request's
// headers, and no later than the request timeout. A priority reaches the engine.
func TestDeadlineAndPriorityReachTheEngine(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{}
	s := newServer(t, Config{Engine: e, Limits: Limits{RequestTimeout: time.Minute}})
	for _, a := range apis {
		body := a.body("q", "d", "e")
		for _, test := range []struct {
			headers  []string
			fields   string
			within   time.Duration
			priority engine.Priority
			partial  bool
		}{
			{fields: `"x": 1`, within: time.Minute},
			{headers: []string{"X-Deadline-Ms", "20000"}, fields: `"x": 1`, within: 20 * time.Second},
			{headers: []string{"X-Deadline-Ms", "20000"}, fields: `"deadline_ms": 10000`, within: 10 * time.Second},
			{headers: []string{"x-deadline-ms", "10000", "x-priority", "batch"}, fields: `"deadline_ms": 20000.0, "on_deadline": "fail"`, within: 10 * time.Second, priority: "batch"},
			{headers: []string{"X-Deadline-Ms", "99999999", "X-Priority", "interactive"}, fields: `"deadline_ms": null, "on_deadline": null`, within: time.Minute, priority: "interactive"},
			{fields: `"deadline_ms": 10000, "on_deadline": "partial"`, within: 10 * time.Second, partial: true},
		} {
			if test.partial && !a.marks() {
				continue
			}
			if w := post(s, a.path, withField(body, test.fields), test.headers...); w.Code != 200 || w.Header().Get("X-Unscored") != "" || strings.Contains(w.Body.String(), "partial") {
				t.Fatalf("%s %v: %d %v %s", a.path, test, w.Code, w.Header(), w.Body)
			}
			if left := time.Duration(e.left.Load()); left > test.within || left < test.within-8*time.Second {
				t.Errorf("%s %v %s: %v left, want %v", a.path, test.headers, test.fields, left, test.within)
			}
			if got := e.options.Load(); got.Priority != test.priority || got.Partial != test.partial {
				t.Errorf("%s %v %s: priority %q, partial %v", a.path, test.headers, test.fields, got.Priority, got.Partial)
			}
		}
	}
}

// An answer at the deadline has the scored results first and the others behind them in
// the order given, without a score, marked. The flags count the documents.
func TestPartialAnswers(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{
		late:  func(p engine.Pair) bool { return strings.HasPrefix(p.Document, "late") },
		logit: func(p engine.Pair) float32 { return float32(len(p.Document)) / 4 },
	}
	var log bytes.Buffer
	s := newServer(t, Config{Engine: e, Logger: zerolog.New(&log).Level(zerolog.WarnLevel)})
	fields := `"deadline_ms": 1000, "on_deadline": "partial", "return_documents": false`
	for _, test := range []struct {
		path, fields, want string
		documents          []string
		unscored           string
	}{
		{"/rerank", "", `[{"index":2,"score":S3},{"index":0,"score":S1},{"index":1,"unscored":true},{"index":3,"unscored":true}]`, []string{"a", "late b", "abc", "late"}, "2"},
		{"/v1/rerank", "", `"results":[{"index":2,"relevance_score":S3},{"index":0,"relevance_score":S1},{"index":1,"unscored":true},{"index":3,"unscored":true}],"partial":true}`, []string{"a", "late b", "abc", "late"}, "2"},
		{"/v2/rerank", "", `"results":[{"index":2,"relevance_score":S3},{"index":0,"relevance_score":S1},{"index":1,"unscored":true},{"index":3,"unscored":true}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1},"warnings":["2 of 4 documents were not scored by the deadline"]},"partial":true}`, []string{"a", "late b", "abc", "late"}, "2"},
		{"/v2/rerank", `, "top_n": 1`, `"results":[{"index":0,"relevance_score":S1}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1},"warnings":["1 of 2 documents`, []string{"a", "late"}, "1"},
		{"/rerank", `, "return_text": true`, `[{"index":0,"text":"late","unscored":true},{"index":1,"text":"later","unscored":true}]`, []string{"late", "later"}, "2"},
		{"/v1/rerank", "", `"results":[{"index":0,"relevance_score":S1}]}`, []string{"a"}, ""},
	} {
		log.Reset()
		body := documentsBody(map[bool]string{true: "texts", false: "documents"}[test.path == "/rerank"])("q", test.documents...)
		w := post(s, test.path, withField(body, fields+test.fields))
		want := test.want
		for n := 1; n <= 3; n++ {
			want = strings.ReplaceAll(want, fmt.Sprintf("S%d", n), quoted(new(loadedModel).toScore(float32(n)/4, nil)))
		}
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || w.Header().Get("X-Unscored") != test.unscored {
			t.Errorf("%s %v: %d, X-Unscored %q\n%s\nwant\n%s", test.path, test.documents, w.Code, w.Header().Get("X-Unscored"), w.Body, want)
		}
		if nothing := strings.Contains(want, `"text":"later"`); nothing != strings.Contains(log.String(), `"unscored":2`) {
			t.Errorf("%v: the log has %q", test.documents, log.String())
		}
	}
}

// An answer that the server writes after its deadline counts as missed, though the
// engine returned scores. One in time does not count.
func TestLateAnswersAreCounted(t *testing.T) {
	t.Parallel()
	pause := time.Duration(0)
	e := &fakeEngine{before: func(context.Context) error { time.Sleep(pause); return nil }}
	s := newServer(t, Config{Engine: e})
	body := documentsBody("texts")("q", "a", "b")
	for _, test := range []struct {
		pause    time.Duration
		deadline string
		want     string
	}{
		{0, `"deadline_ms": 60000`, "0"},
		{50 * time.Millisecond, `"x": 1`, "0"},
		{50 * time.Millisecond, `"deadline_ms": 20, "on_deadline": "partial"`, "1"},
		{50 * time.Millisecond, `"deadline_ms": 20`, "2"},
	} {
		pause = test.pause
		if w := post(s, "/rerank", withField(body, test.deadline)); w.Code != 200 {
			t.Fatalf("%s: %d %s", test.deadline, w.Code, w.Body)
		}
		metrics := withoutModel(do(s, "GET", "/metrics").Body.String(), "fake")
		if want := "mlxrank_deadlines_missed_total " + test.want + "\n"; !strings.Contains(metrics, want) {
			t.Errorf("after %v with %s the metrics lack %q", test.pause, test.deadline, want)
		}
	}
}

// Formats whose scores clients match with their inputs by position have no partial
// answers.
func TestPartialNeedsMarks(t *testing.T) {
	t.Parallel()
	e := &fakeEngine{}
	s := newServer(t, Config{Engine: e})
	for _, a := range apis {
		body := withField(a.body("q", "d"), `"on_deadline": "partial"`)
		if a.marks() {
			if w := post(s, a.path, body); w.Code != 200 {
				t.Errorf("%s: %d %s", a.path, w.Code, w.Body)
			}
			continue
		}
		before := e.executed.Load()
		checkFailure(t, s, a, row{status: 400, kind: kindValidation, message: "by position"}, body)
		if e.executed.Load() != before {
			t.Errorf("%s executed something", a.path)
		}
	}
}

func TestWrongDeadlines(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for _, a := range apis {
		for _, fields := range []string{`"deadline_ms": 0`, `"deadline_ms": -1`, `"deadline_ms": 1.5`, `"deadline_ms": "100"`, `"deadline_ms": 2147483648`, `"deadline_ms": 1e300`, `"on_deadline": "later"`, `"on_deadline": true`} {
			checkFailure(t, s, a, row{status: 422, kind: kindValidation, message: "validation failed"}, withField(a.body("q", "d"), fields))
		}
		for _, header := range []string{"-5", "1.5", "1e3", "soon", "+200", "0", "2147483648", "99999999999999999999"} {
			checkFailure(t, s, a, row{status: 400, kind: kindValidation, message: "milliseconds", headers: []string{"X-Deadline-Ms", header}}, a.body("q", "d"))
		}
	}
}

// The header and the field have the same limits.
func TestLongestDeadline(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	for _, a := range apis {
		if w := post(s, a.path, withField(a.body("q", "d"), `"deadline_ms": 2147483647`)); w.Code != 200 {
			t.Errorf("%s: field: %d %s", a.path, w.Code, w.Body)
		}
		if w := post(s, a.path, a.body("q", "d"), "X-Deadline-Ms", "2147483647"); w.Code != 200 {
			t.Errorf("%s: header: %d %s", a.path, w.Code, w.Body)
		}
		checkFailure(t, s, a, row{status: 422, kind: kindValidation, message: "expected number <= 2147483647"}, withField(a.body("q", "d"), `"deadline_ms": 2147483648`))
	}
}

// The answer at a deadline advises partial answers only to requests that can ask for them
// and have not: here while a model loads, for which partial requests wait too.
func TestDeadlineAdvice(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	shelf.delay = func(ctx context.Context, _ string) error { return waits(ctx) }
	m, err := NewModels(t.Context(), ModelsConfig{Names: []string{"a"}, Lazy: true, Load: shelf.load})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := newServer(t, Config{Models: m})
	for _, a := range apis {
		for fields, advised := range map[string]bool{`"deadline_ms": 20`: a.marks(), `"deadline_ms": 20, "on_deadline": "partial"`: false} {
			if strings.Contains(fields, "partial") && !a.marks() {
				continue // refused
			}
			w := post(s, a.path, withField(a.body("q", "d"), fields))
			if text := w.Body.String(); w.Code != 504 || !strings.Contains(text, "allow more time") || strings.Contains(text, "on_deadline") != advised {
				t.Errorf("%s %s: %d %s, on_deadline should be advised: %v", a.path, fields, w.Code, text, advised)
			}
		}
	}
}

// An overdue context has passed its deadline, but its timer has not.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// The engine compares a deadline with the clock, and can see before the context that it has
// passed. The control has time left.
func TestDeadlineAheadOfItsTimer(t *testing.T) {
	t.Parallel()
	s := newServer(t, Config{})
	late := fmt.Errorf("engine: %w", context.DeadlineExceeded)
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(10*time.Millisecond, func() { cancel(errDeadline) })
	if f := s.newFailure(overdue{ctx}, late); f.status != http.StatusGatewayTimeout {
		t.Errorf("status %d: %s", f.status, f.message)
	}
	if f := s.newFailure(t.Context(), late); f.status != http.StatusInternalServerError {
		t.Errorf("without a deadline: status %d: %s", f.status, f.message)
	}
}

// A request that takes too long even alone gets the same advice, where its format has
// partial answers. One that is too large for the queue does not.
func TestTooSlowAdvice(t *testing.T) {
	t.Parallel()
	for cause, slow := range map[error]bool{engine.ErrTooSlow: true, engine.ErrTooLarge: false} {
		s := newServer(t, Config{Engine: &fakeEngine{before: fails(fmt.Errorf("%w: split it or allow more time", cause))}})
		for _, a := range apis {
			w := post(s, a.path, a.body("q", "d"), "X-Deadline-Ms", "100")
			if text := w.Body.String(); w.Code != 413 || !strings.Contains(text, "split it or allow more time") || strings.Contains(text, "on_deadline") != (slow && a.marks()) {
				t.Errorf("%s: %d %s", a.path, w.Code, text)
			}
		}
	}
}

// The OpenAPI document describes the headers, the fields and the marks.
func TestDeadlinesAreDocumented(t *testing.T) {
	t.Parallel()
	type parameter struct{ Name, In string }
	var document struct {
		Paths map[string]map[string]struct {
			Parameters []parameter
			Responses  map[string]struct{ Headers map[string]any }
		}
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Required   []string
			}
		}
	}
	if err := json.Unmarshal(do(newServer(t, Config{}), "GET", "/openapi.json").Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	for _, a := range apis {
		post := document.Paths[a.path]["post"]
		deadline, priority := parameter{"X-Deadline-Ms", "header"}, parameter{"X-Priority", "header"}
		if !slices.Contains(post.Parameters, deadline) || !slices.Contains(post.Parameters, priority) || post.Responses["200"].Headers["X-Unscored"] == nil {
			t.Errorf("%s: %+v", a.path, post)
		}
	}
	for name, field := range map[string]string{"TeiRank": "score", "JinaResult": "relevance_score", "CohereResult": "relevance_score"} {
		schema := document.Components.Schemas[name]
		if schema.Properties["unscored"] == nil || len(schema.Required) != 1 || schema.Properties[field] == nil {
			t.Errorf("%s: %+v", name, schema)
		}
	}
	for _, name := range []string{"TeiRerank", "TeiPredict", "JinaRerank", "CohereRerank", "VllmScore"} {
		if p := document.Components.Schemas[name].Properties; p["deadline_ms"] == nil || p["on_deadline"] == nil {
			t.Errorf("%s has no fields for deadlines", name)
		}
	}
}

// A real engine answers in time over HTTP: partially, or with 504, and counts both.
func TestDeadlinesOverHTTP(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := openTiny(t, engine.Config{})
	v := serveOn(t, Config{Engine: e})
	texts := make([]string, 1000)
	for i := range texts {
		texts[i] = fmt.Sprint(i, strings.Repeat(" word", 400))
	}
	body := documentsBody("texts")("a query", texts...)
	if status, answer, _ := v.ask(t, "/rerank", withField(body, `"deadline_ms": 30`)); status != http.StatusGatewayTimeout && status != http.StatusRequestEntityTooLarge {
		t.Fatalf("within 30 ms: %d %.200s", status, answer)
	}
	// Reading the body alone may take longer on a slow machine, which is 504.
	var status int
	var answer string
	var header http.Header
	for within := 200; within < 20_000 && status != 200; within *= 2 {
		start := time.Now()
		status, answer, header = v.ask(t, "/rerank", withField(body, fmt.Sprintf(`"deadline_ms": %d, "on_deadline": "partial"`, within)))
		t.Logf("within %d ms: status %d after %v", within, status, time.Since(start))
	}
	got, err := parseAnswer("/rerank", []byte(answer))
	if status != 200 || err != nil || len(got) != 1000 || header.Get("X-Unscored") == "" {
		t.Fatalf("%d, %v, %d results, X-Unscored %q", status, err, len(got), header.Get("X-Unscored"))
	}
	t.Logf("%s of 1000 unscored", header.Get("X-Unscored"))
	if s := e.Stats(); s.Partial != 1 {
		t.Errorf("%d partial answers", s.Partial)
	}
	_, metrics, _ := v.do(t, http.MethodGet, "/metrics", "")
	metrics = withoutModel(metrics, e.Info().Model)
	for _, line := range []string{`mlxrank_partial_answers_total 1`, `mlxrank_requests_by_priority_total{priority="interactive"} 1`, `mlxrank_requests_by_priority_total{priority="batch"} 0`, `mlxrank_pairs_unscored_total ` + header.Get("X-Unscored")} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
}
