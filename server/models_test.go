package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// A shelf opens fake models by name. A model's score of a document is its own, so that an
// answer of the wrong model is found.
type shelf struct {
	t      testing.TB
	delay  func(ctx context.Context, name string) error // of a load
	bytes  map[string]int64
	before func(ctx context.Context) error // of every scoring

	mu    sync.Mutex
	opens map[string]int
	open  map[string]*shelfEngine
	most  int64 // bytes open at once
}

// A shelfEngine refuses to score once it is closed, and to close while it scores.
type shelfEngine struct {
	fakeEngine
	shelf   *shelf
	name    string
	scoring atomic.Int64
	shut    atomic.Bool
}

func newShelf(t testing.TB) *shelf {
	return &shelf{t: t, bytes: map[string]int64{}, opens: map[string]int{}, open: map[string]*shelfEngine{}}
}

func (s *shelf) load(ctx context.Context, name string) (Engine, error) {
	s.mu.Lock()
	s.opens[name]++
	s.mu.Unlock()
	if s.delay != nil {
		if err := s.delay(ctx, name); err != nil {
			return nil, err
		}
	}
	e := &shelfEngine{shelf: s, name: name}
	e.logit = func(p engine.Pair) float32 { return shelfLogit(name, p.Document) }
	e.before = s.before
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[name] != nil {
		s.t.Errorf("model %s is opened twice", name)
	}
	s.open[name] = e
	var sum int64
	for name := range s.open {
		sum += s.bytes[name]
	}
	s.most = max(s.most, sum)
	return e, nil
}

func shelfLogit(name, document string) float32 {
	return fakeLogit(engine.Pair{Query: name, Document: document})
}

func (s *shelf) opened(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens[name]
}

// peak returns how many bytes were open at once. A load may still run.
func (s *shelf) peak() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func (e *shelfEngine) Rerank(ctx context.Context, query string, documents []string, opts engine.RerankOptions) (*engine.Ranking, error) {
	e.scoring.Add(1)
	defer e.scoring.Add(-1)
	if e.shut.Load() {
		e.shelf.t.Errorf("model %s scores although it is closed", e.name)
	}
	return e.fakeEngine.Rerank(ctx, query, documents, opts)
}

func (e *shelfEngine) Info() engine.Info {
	info := e.fakeEngine.Info()
	info.Model, info.WeightBytes = e.name, e.shelf.bytes[e.name]
	return info
}

func (e *shelfEngine) Close() error {
	if n := e.scoring.Load(); n > 0 {
		e.shelf.t.Errorf("model %s is closed under %d requests", e.name, n)
	}
	e.shut.Store(true)
	e.shelf.mu.Lock()
	defer e.shelf.mu.Unlock()
	delete(e.shelf.open, e.name)
	return nil
}

// newModels makes models of a shelf and closes them at the end of the test.
func newModels(t testing.TB, s *shelf, cfg ModelsConfig) *Models {
	t.Helper()
	cfg.Load = s.load
	m, err := NewModels(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.open) > 0 {
			t.Errorf("%d models stay open", len(s.open))
		}
	})
	return m
}

func named(model, field string, documents ...string) string {
	return quoted(map[string]any{"model": model, "query": "q", field: documents})
}

// rankedBy returns the model that an answer in Jina's format names, after it has checked
// that the scores are this model's.
func rankedBy(body []byte, documents ...string) (string, error) {
	var answer struct {
		Model   string
		Results []struct {
			Index int
			Score float64 `json:"relevance_score"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", fmt.Errorf("%w: %s", err, body)
	}
	if len(answer.Results) != len(documents) {
		return "", fmt.Errorf("%d results, want %d: %s", len(answer.Results), len(documents), body)
	}
	for _, r := range answer.Results {
		if want := float64(shelfLogit(answer.Model, documents[r.Index])); r.Score != want {
			return "", fmt.Errorf("model %s answers %v for %q, want %v", answer.Model, r.Score, documents[r.Index], want)
		}
	}
	return answer.Model, nil
}

// ask ranks documents with a model and returns the status and the model that answered.
func (s *Server) askModel(ctx context.Context, t testing.TB, model string, documents ...string) (int, string) {
	t.Helper()
	body := quoted(map[string]any{"model": model, "query": "q", "documents": documents, "raw_scores": true})
	w := serve(s, request("/v1/rerank", body).WithContext(ctx))
	if w.Code != http.StatusOK {
		return w.Code, w.Body.String()
	}
	by, err := rankedBy(w.Body.Bytes(), documents...)
	if err != nil {
		t.Error(err)
	}
	return w.Code, by
}

// A request's model picks the model by name or alias; the first one answers without it.
func TestModelOfRequest(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	models := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b"}, Aliases: map[string]string{"rerank-v3.5": "b", "latest": "rerank-v3.5"}})
	s := newServer(t, Config{Models: models})
	for asked, want := range map[string]string{"": "a", "a": "a", "b": "b", "rerank-v3.5": "b", "latest": "b"} {
		if status, by := s.askModel(t.Context(), t, asked, "x", "y"); status != 200 || by != want {
			t.Errorf("model %q: %d by %s, want %s", asked, status, by, want)
		}
	}
	if status, by := s.askModel(t.Context(), t, "c", "x"); status != 404 || by != `{"detail":"model is not served: expected one of a, b, rerank-v3.5, latest"}`+"\n" {
		t.Errorf("an unknown model: %d %s", status, by)
	}
	// Every format takes the field, and each answers in its own shape.
	for _, a := range apis {
		right := strings.Replace(a.body("q", "d"), "{", `{"model": "b", `, 1)
		if w := post(s, a.path, right); w.Code != 200 {
			t.Errorf("%s: %d %s", a.path, w.Code, w.Body)
		}
		checkFailure(t, s, a, row{status: 404, kind: kindNotFound, message: "expected one of a, b"}, strings.Replace(right, `"b"`, `"c"`, 1))
		checkFailure(t, s, a, row{status: 422, kind: kindValidation, message: "model: expected string"}, strings.Replace(right, `"b"`, `7`, 1))
	}
	other := newServer(t, Config{Models: models, AnyModel: true})
	if status, by := other.askModel(t.Context(), t, "c", "x"); status != 200 || by != "a" {
		t.Errorf("with AnyModel: %d by %s, want a", status, by)
	}
	if status, by := other.askModel(t.Context(), t, "b", "x"); status != 200 || by != "b" {
		t.Errorf("with AnyModel: %d by %s, want b", status, by)
	}
	// Control: the scores of a and b differ, so that rankedBy sees a wrong model.
	w := post(s, "/v1/rerank", `{"model": "b", "query": "q", "documents": ["x"], "raw_scores": true}`)
	if _, err := rankedBy([]byte(strings.Replace(w.Body.String(), `"model":"b"`, `"model":"a"`, 1)), "x"); err == nil {
		t.Error("an answer of the wrong model is not found")
	}
}

// Mistakes in names end the start.
func TestModelNames(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	for _, test := range []struct {
		names   []string
		aliases map[string]string
		want    string
	}{
		{nil, nil, "no model"},
		{[]string{""}, nil, "is empty"},
		{[]string{"a", "b", "a"}, nil, "model a is given twice"},
		{[]string{"a", "b"}, map[string]string{"a": "b"}, "alias a is the name of a model"},
		{[]string{"a"}, map[string]string{"x": "b"}, `alias x names "b", which is not served; expected one of a`},
		{[]string{"a"}, map[string]string{"x": "y", "y": "b"}, `alias x names "b"`},
		{[]string{"a"}, map[string]string{"x": "y", "y": "z", "z": "x"}, "leads back to itself"},
		{[]string{"a"}, map[string]string{"x": "x"}, "alias x leads back to itself"},
		{[]string{"a"}, map[string]string{"": "a"}, "an alias is empty"},
		{[]string{"a"}, map[string]string{"builtin": "a"}, "alias builtin is the name of a model"},
		{[]string{"a"}, map[string]string{"a b": "a"}, `alias "a b" has a space or a control character`},
		{[]string{"a"}, map[string]string{"b\n": "a"}, `alias "b\n" has a space or a control character`},
		{[]string{"a"}, map[string]string{"b\xff": "a"}, "has a space or a control character"},
		{[]string{"a\n"}, nil, "has a control character"},
	} {
		_, err := NewModels(t.Context(), ModelsConfig{Names: test.names, Aliases: test.aliases, Load: shelf.load})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v %v: error %v, want %q", test.names, test.aliases, err, test.want)
		}
	}
	for _, alias := range []string{"rerank-v3.5", "BAAI/bge-reranker-base@main", "größe:latest", "再ランク"} { // control: what is no mistake
		m, err := NewModels(t.Context(), ModelsConfig{Names: []string{"a", "my model"}, Aliases: map[string]string{alias: "a"}, Load: shelf.load, Lazy: true})
		if err != nil || m.names[alias] == nil {
			t.Errorf("alias %q: %v", alias, err)
		}
	}
	if n := shelf.opened("a"); n > 0 {
		t.Errorf("%d loads before the mistake is found", n)
	}
	shelf.delay = func(_ context.Context, name string) error {
		if name == "b" {
			return errors.New("b is broken")
		}
		return nil
	}
	if _, err := NewModels(t.Context(), ModelsConfig{Names: []string{"a", "b"}, Load: shelf.load}); err == nil || err.Error() != "b is broken" {
		t.Errorf("a model that cannot be loaded at the start: %v", err)
	}
	if len(shelf.open) > 0 {
		t.Error("model a stays open after a failed start")
	}
	shelf.delay, shelf.bytes = nil, map[string]int64{"a": 2 << 20, "b": 2 << 20}
	if _, err := NewModels(t.Context(), ModelsConfig{Names: []string{"a", "b"}, MaxBytes: 3 << 20, Load: shelf.load}); err == nil || !strings.Contains(err.Error(), "4.0 MB, more than the limit of 3.0 MB") {
		t.Errorf("models beyond the limit at the start: %v", err)
	}
}

// Many requests wait for one load. One that gives up does not disturb the others, and a
// load whose requests have all given up still ends well.
func TestLoadOnce(t *testing.T) {
	t.Parallel()
	shelf, begun, proceed := newShelf(t), make(chan struct{}), make(chan struct{})
	shelf.delay = func(ctx context.Context, _ string) error {
		close(begun)
		select {
		case <-proceed:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a"}, Lazy: true})
	s := newServer(t, Config{Models: m})
	var waiting sync.WaitGroup
	gone, leave := context.WithCancel(t.Context())
	for i := range 60 {
		ctx, want := t.Context(), 200
		if i%3 == 0 {
			ctx, want = gone, 499
		}
		waiting.Go(func() {
			if status, by := s.askModel(ctx, t, "a", "x"); status != want {
				t.Errorf("request %d: %d %s, want %d", i, status, by, want)
			}
		})
	}
	<-begun
	waitFor(t, "a load with 60 requests", func() bool { return m.waiting("a") == 60 })
	leave()
	waitFor(t, "the end of 20 requests", func() bool { return m.waiting("a") == 40 })
	close(proceed)
	waiting.Wait()
	if n := shelf.opened("a"); n != 1 {
		t.Errorf("%d loads, want 1", n)
	}
	if uses := m.List()[0].Running; uses != 0 {
		t.Errorf("%d requests hold the model after their end", uses)
	}
}

// waiting counts the requests that wait for a model's load.
func (m *Models) waiting(name string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.names[name].load; l != nil {
		return l.waiting
	}
	return 0
}

// A load goes on without its requests, so that the next one finds the model loaded.
func TestLoadWithoutRequests(t *testing.T) {
	t.Parallel()
	shelf, proceed := newShelf(t), make(chan struct{})
	shelf.delay = func(context.Context, string) error { <-proceed; return nil }
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a"}, Lazy: true})
	s := newServer(t, Config{Models: m, Limits: Limits{RequestTimeout: 20 * time.Millisecond}})
	if status, by := s.askModel(t.Context(), t, "a", "x"); status != 504 {
		t.Errorf("during the load: %d %s, want 504", status, by)
	}
	close(proceed)
	waitFor(t, "the load", func() bool { return m.List()[0].State == "loaded" })
	if status, by := s.askModel(t.Context(), t, "a", "x"); status != 200 || shelf.opened("a") != 1 {
		t.Errorf("after %d loads: %d %s", shelf.opened("a"), status, by)
	}
}

// A model that cannot be loaded does not affect the others. Its requests get an error
// without the cause, at once during the cooldown; then the next one tries again.
func TestFailingLoad(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	var broken atomic.Bool
	broken.Store(true)
	shelf.delay = func(_ context.Context, name string) error {
		if name == "b" && broken.Load() {
			return errors.New("open /secret/path: no such file")
		}
		return nil
	}
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b"}, Lazy: true})
	s := newServer(t, Config{Models: m})
	for range 5 {
		for _, a := range apis {
			checkFailure(t, s, a, row{status: 503, kind: kindUnhealthy, message: "the model cannot be loaded; the server's log has the reason", retry: true}, strings.Replace(a.body("q", "d"), "{", `{"model": "b", `, 1))
		}
		if status, by := s.askModel(t.Context(), t, "a", "x"); status != 200 {
			t.Errorf("model a: %d %s", status, by)
		}
		if w := do(s, "GET", "/ready"); w.Code != 200 {
			t.Errorf("/ready: %d %s", w.Code, w.Body)
		}
	}
	if n := shelf.opened("b"); n != 1 {
		t.Errorf("%d loads within the cooldown, want 1", n)
	}
	if state := m.List()[1].State; state != "failed" {
		t.Errorf("state %s, want failed", state)
	}
	broken.Store(false)
	m.mu.Lock()
	m.names["b"].failedAt = time.Now().Add(-cooldown)
	m.mu.Unlock()
	if status, by := s.askModel(t.Context(), t, "b", "x"); status != 200 {
		t.Errorf("after the cooldown: %d %s", status, by)
	}
}

// Requests that wait for a load take at most half of the server's room.
func TestLoadQueue(t *testing.T) {
	t.Parallel()
	shelf, proceed := newShelf(t), make(chan struct{})
	shelf.delay = func(_ context.Context, name string) error {
		if name == "b" {
			<-proceed
		}
		return nil
	}
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b"}, Lazy: true})
	s := newServer(t, Config{Models: m, Limits: Limits{Requests: 8}})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			if status, by := s.askModel(t.Context(), t, "b", "x"); status != 200 {
				t.Errorf("a request that waits: %d %s", status, by)
			}
		})
	}
	waitFor(t, "four requests", func() bool { return m.waiting("b") == 4 })
	if status, by := s.askModel(t.Context(), t, "b", "x"); status != 429 {
		t.Errorf("a fifth request: %d %s, want 429", status, by)
	}
	if status, by := s.askModel(t.Context(), t, "a", "x"); status != 200 {
		t.Errorf("model a meanwhile: %d %s", status, by)
	}
	close(proceed)
	running.Wait()
}

// With a limit, the model that was used longest ago is unloaded for another; models that
// requests hold stay until these have ended.
func TestLeastRecentlyUsed(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	shelf.bytes = map[string]int64{"a": 1 << 20, "b": 1 << 20, "c": 1 << 20, "big": 5 << 20}
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b", "c", "big"}, Lazy: true, MaxBytes: 2 << 20})
	s := newServer(t, Config{Models: m})
	states := func() string {
		var list []string
		for _, served := range m.List() {
			if served.State != "unloaded" {
				list = append(list, served.ID)
			}
		}
		return strings.Join(list, " ")
	}
	for _, step := range []struct{ ask, want string }{{"a", "a"}, {"b", "a b"}, {"a", "a b"}, {"c", "a c"}, {"b", "b c"}} {
		if status, by := s.askModel(t.Context(), t, step.ask, "x"); status != 200 {
			t.Fatalf("%s: %d %s", step.ask, status, by)
		}
		if got := states(); got != step.want {
			t.Errorf("after %s: loaded %s, want %s", step.ask, got, step.want)
		}
		time.Sleep(time.Millisecond) // last uses differ
	}
	if status, by := s.askModel(t.Context(), t, "big", "x"); status != 503 {
		t.Errorf("a model beyond the limit: %d %s", status, by)
	}
	if got := m.List()[3].State; got != "failed" {
		t.Errorf("a model beyond the limit is %s", got)
	}
	if err := m.names["big"].failure; err == nil || !strings.Contains(err.Error(), "takes 5.0 MB, more than the limit of 2.0 MB") {
		t.Errorf("a model beyond the limit: %v", err)
	}
}

// A model that is unloaded finishes its requests first; new ones wait and load it again.
func TestUnloadWaits(t *testing.T) {
	t.Parallel()
	shelf, held, proceed := newShelf(t), make(chan struct{}, 10), make(chan struct{})
	shelf.before = func(context.Context) error { held <- struct{}{}; <-proceed; return nil }
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a"}})
	s := newServer(t, Config{Models: m})
	var running sync.WaitGroup
	rank := func() {
		running.Go(func() {
			if status, by := s.askModel(t.Context(), t, "a", "x"); status != 200 {
				t.Errorf("%d %s", status, by)
			}
		})
	}
	rank()
	<-held
	discarded := make(chan error, 1)
	go func() { discarded <- m.discard(t.Context(), "a", false) }()
	waitFor(t, "the unload", func() bool { return m.List()[0].State == "unloading" })
	rank()
	select {
	case err := <-discarded:
		t.Errorf("the model is unloaded under a request: %v", err)
	case <-held:
		t.Error("a request gets a model that is being unloaded")
	case <-time.After(20 * time.Millisecond):
	}
	close(proceed)
	running.Wait()
	if err := <-discarded; err != nil || shelf.opened("a") != 2 {
		t.Errorf("%d loads, want 2; error %v", shelf.opened("a"), err)
	}
	if stats := m.Stats(); stats.Pairs != 2 {
		t.Errorf("%d pairs of both engines, want 2", stats.Pairs)
	}
}

// A model that rests is unloaded, and loaded again by the next request.
func TestIdleUnload(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a"}, IdleUnload: 20 * time.Millisecond})
	s := newServer(t, Config{Models: m})
	for round := range 2 {
		if status, by := s.askModel(t.Context(), t, "a", "x"); status != 200 {
			t.Fatalf("round %d: %d %s", round, status, by)
		}
		waitFor(t, "an unloaded model", func() bool { return m.List()[0].State == "unloaded" })
	}
	info := do(s, "GET", "/info").Body.String()
	if !strings.Contains(info, `"model_id":"a"`) || !strings.Contains(info, `"state":"unloaded"`) || !strings.Contains(info, `"max_input_length":512`) {
		t.Errorf("/info of an unloaded model: %s", info)
	}
	// A request that takes longer than the time of rest keeps its model.
	shelf.before = func(context.Context) error { time.Sleep(60 * time.Millisecond); return nil }
	if status, by := s.askModel(t.Context(), t, "a", "x"); status != 200 {
		t.Errorf("a long request: %d %s", status, by)
	}
}

// Models are switched, unloaded, evicted and removed under load, and every answer has the
// scores of the model that it names.
func TestSwitchUnderLoad(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	shelf.bytes = map[string]int64{"a": 1 << 20, "b": 1 << 20, "c": 1 << 20, "d": 1 << 20}
	shelf.delay = func(ctx context.Context, _ string) error { time.Sleep(time.Millisecond); return ctx.Err() }
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b", "c"}, Aliases: map[string]string{"live": "a"}, Lazy: true, MaxBytes: 2 << 20, IdleUnload: 3 * time.Millisecond})
	s := newServer(t, Config{Models: m, Key: "secret", Admin: true})
	var clients, admins sync.WaitGroup
	var right atomic.Int64
	stop := make(chan struct{})
	for i := range 24 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for range 40 {
				model := []string{"", "a", "b", "c", "live"}[r.IntN(5)]
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(5) == 0 {
					time.AfterFunc(time.Duration(r.IntN(2000))*time.Microsecond, cancel)
				}
				documents := []string{randomText(r, 5), randomText(r, 5)}
				body := quoted(map[string]any{"model": model, "query": "q", "documents": documents, "raw_scores": true})
				w := serve(s, request("/v1/rerank", body, "Authorization", "Bearer secret").WithContext(ctx))
				gaveUp := ctx.Err() != nil
				cancel()
				if w.Code != 200 {
					if !gaveUp {
						t.Errorf("model %q: %d %s", model, w.Code, w.Body)
					}
					continue
				}
				by, err := rankedBy(w.Body.Bytes(), documents...)
				if err != nil || model != "" && model != "live" && by != model {
					t.Errorf("model %q: by %s, error %v", model, by, err)
				}
				right.Add(1)
			}
		})
	}
	admins.Go(func() {
		r := rand.New(rand.NewPCG(2, 2))
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			model := []string{"a", "b", "c"}[r.IntN(3)]
			change := []string{
				`{"action": "default", "model": "` + model + `"}`, `{"action": "alias", "alias": "live", "model": "` + model + `"}`,
				`{"action": "unload", "model": "` + model + `"}`, `{"action": "load", "model": "d"}`, `{"action": "remove", "model": "d"}`,
			}[r.IntN(5)]
			w := post(s, "/admin/models", change, "Authorization", "Bearer secret")
			busy := w.Code == 503 && strings.Contains(w.Body.String(), "try again later")
			if w.Code != 200 && w.Code != 422 && w.Code != 404 && !busy {
				t.Errorf("%s: %d %s", change, w.Code, w.Body)
			}
		}
	})
	clients.Wait()
	close(stop)
	admins.Wait()
	t.Logf("%d right answers, %d loads", right.Load(), shelf.opened("a")+shelf.opened("b")+shelf.opened("c"))
	if right.Load() < 500 {
		t.Errorf("%d right answers", right.Load())
	}
	for _, served := range m.List() {
		if served.Running != 0 {
			t.Errorf("%d requests hold model %s after their end", served.Running, served.ID)
		}
	}
	// A load first makes room for what the model took before, and only then loads.
	if most := shelf.peak(); most > 3<<20 {
		t.Errorf("%d bytes at once, want at most the limit and one first load", most)
	}
}

// Close cancels a load, and waits for it.
func TestCloseDuringLoad(t *testing.T) {
	t.Parallel()
	shelf, begun := newShelf(t), make(chan struct{})
	shelf.delay = func(ctx context.Context, _ string) error { close(begun); <-ctx.Done(); return ctx.Err() }
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a"}, Lazy: true})
	s := newServer(t, Config{Models: m})
	answered := make(chan int, 1)
	go func() { status, _ := s.askModel(t.Context(), t, "a", "x"); answered <- status }()
	<-begun
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if status := <-answered; status != 503 {
		t.Errorf("status %d, want 503", status)
	}
	if status, _ := s.askModel(t.Context(), t, "a", "x"); status != 503 {
		t.Errorf("after Close: %d, want 503", status)
	}
}

// New takes either models or an engine.
func TestModelsOrEngine(t *testing.T) {
	t.Parallel()
	m := newModels(t, newShelf(t), ModelsConfig{Names: []string{"a"}})
	for _, cfg := range []Config{{}, {Models: m, Engine: &fakeEngine{}}, {Models: m, Admin: true}, {Engine: &fakeEngine{}, Admin: true, Key: "k"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	// The engine of a caller stays open.
	e := &fakeEngine{}
	if err := newServer(t, Config{Engine: e}).Models.Close(); err != nil || e.closed.Load() != 0 {
		t.Errorf("%d calls of Close, error %v", e.closed.Load(), err)
	}
}

func TestModelsAreListed(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	shelf.bytes["b"] = 7
	m := newModels(t, shelf, ModelsConfig{Names: []string{"a", "b"}, Aliases: map[string]string{"x": "b"}, Lazy: true})
	s := newServer(t, Config{Models: m})
	if status, by := s.askModel(t.Context(), t, "b", "x"); status != 200 {
		t.Fatal(by)
	}
	var list openAIModels
	if err := json.Unmarshal(do(s, "GET", "/v1/models").Body.Bytes(), &list); err != nil || len(list.Data) != 3 {
		t.Fatalf("%+v, error %v", list, err)
	}
	for i, want := range []openAIModel{{ID: "a", Root: "a"}, {ID: "b", Root: "b", MaxModelLen: 512}, {ID: "x", Root: "b", MaxModelLen: 512}} {
		if got := list.Data[i]; got.ID != want.ID || got.Root != want.Root || got.MaxModelLen != want.MaxModelLen || got.Object != "model" {
			t.Errorf("model %d: %+v, want %+v", i, got, want)
		}
	}
	var info modelInfo
	if err := json.Unmarshal(do(s, "GET", "/info").Body.Bytes(), &info); err != nil {
		t.Fatal(err)
	}
	if info.ModelID != "a" || info.ServedModelName != "a" || len(info.Models) != 2 || info.Models[0].State != "unloaded" || !info.Models[0].Default {
		t.Errorf("%+v", info)
	}
	if b := info.Models[1]; b.State != "loaded" || b.WeightBytes != 7 || b.Default || b.LastUse == 0 || b.Pairs != 1 || len(b.Aliases) != 1 || b.MaxInputLength != 512 {
		t.Errorf("%+v", b)
	}
	if d := DefaultLimits(); info.Limits.Documents != d.Documents || info.Limits.Characters != d.Characters || info.Limits.ConcurrentRequests != d.Requests || info.Limits.RequestTimeoutMS != 60_000 {
		t.Errorf("%+v", info.Limits)
	}
	text := do(s, "GET", "/metrics").Body.String()
	for _, line := range []string{
		`mlxrank_model_loaded{model="a"} 0`, `mlxrank_model_loaded{model="b"} 1`, `mlxrank_model_loads_total{model="b"} 1`, `mlxrank_model_weight_bytes{model="b"} 7`,
		`mlxrank_pairs_total{model="a"} 0`, `mlxrank_pairs_total{model="b"} 1`, `mlxrank_model_unloads_total{model="b"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	// Counts stay when the model is unloaded, and the client's words appear nowhere.
	if err := m.discard(t.Context(), "b", false); err != nil {
		t.Fatal(err)
	}
	s.askModel(t.Context(), t, "unheard-of", "x")
	text = do(s, "GET", "/metrics").Body.String()
	if !strings.Contains(text, "\n"+`mlxrank_pairs_total{model="b"} 1`+"\n") || strings.Contains(text, "unheard-of") {
		t.Errorf("metrics after an unload: %s", text)
	}
}
