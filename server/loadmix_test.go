package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cache"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// A form is a request as some client sends it. Its answer is like one of the API at the
// path answer.
type form struct {
	path, answer string
	body         func(query string, documents ...string) string
}

// forms lists the requests of TestLoadMix: every API's, and those that are answered like
// another path.
func forms() []form {
	var list []form
	for _, a := range apis {
		list = append(list, form{a.path, a.path, a.body})
	}
	documents := documentsBody("documents")
	return append(list,
		form{"/v1/rerank", "/v1/rerank", cohereFields},
		form{"/rerank", "/v1/rerank", documents}, // vLLM
		form{"/v1/rerank", "/voyage/v1/rerank", func(query string, texts ...string) string {
			return withField(documents(query, texts...), `"truncation": true`)
		}},
		form{"/voyage/rerank", "/voyage/v1/rerank", documents},
		form{"/infinity/v1/rerank", "/infinity/rerank", documents},
		form{"/v1/score", "/score", func(query string, texts ...string) string {
			return quoted(map[string]any{"queries": query, "items": texts})
		}},
		form{"/invocations", "/predict", apis[3].body},
		form{"/hf-inference/models/any/pipeline/sentence-similarity", similarityAnswer, func(query string, texts ...string) string {
			return quoted(map[string]any{"inputs": map[string]any{"source_sentence": query, "sentences": texts}})
		}},
	)
}

// cohereFields makes a body of version 1 of Cohere's API, with objects.
func cohereFields(query string, texts ...string) string {
	objects := make([]map[string]string, len(texts))
	for i, text := range texts {
		objects[i] = map[string]string{"body": text, "id": strconv.Itoa(i)}
	}
	return quoted(map[string]any{"query": query, "documents": objects, "rank_fields": []string{"body"}})
}

// A shot is one random call, and what its answer may be.
type shot struct {
	form
	libraries   []*library // of the models that may answer
	rows        []int      // of the library's texts
	raw         bool       // logits are asked for
	deadline    bool
	partial     bool
	text        string
	header      http.Header
	leavesAfter time.Duration // 0 for a client that waits
}

// A mix sends shots to a server of two models that are switched.
type mix struct {
	base  string
	named map[string][]*library // by the name that a request gives
	names []string
	forms []form
	start time.Time
}

const mixKey = "a-key-of-the-load-test"

func (m *mix) shot(r *rand.Rand) shot {
	f := m.forms[r.IntN(len(m.forms))]
	name := m.names[r.IntN(len(m.names))]
	if r.IntN(10) > 0 { // most calls of half a second want one model
		name = m.names[int(time.Since(m.start)/(500*time.Millisecond))%2]
	}
	s := shot{form: f, libraries: m.named[name], rows: make([]int, mixed[r.IntN(len(mixed))]), header: http.Header{}}
	texts := make([]string, len(s.rows))
	for i := range texts {
		s.rows[i] = r.IntN(len(s.libraries[0].texts))
		texts[i] = s.libraries[0].texts[s.rows[i]]
	}
	s.text = f.body(s.libraries[0].query, texts...)
	if name != "" {
		s.text = withField(s.text, `"model": "`+name+`"`)
	}
	if s.raw = r.IntN(4) == 0; s.raw {
		s.text = withField(s.text, `"raw_scores": true`)
	}
	s.header.Set("Authorization", "Bearer "+mixKey)
	if r.IntN(3) == 0 {
		s.header.Set("Cache-Control", "no-store")
	}
	if r.IntN(3) == 0 {
		s.header.Set(headerPriority, "batch")
	}
	if s.deadline = r.IntN(4) == 0; s.deadline {
		within := strconv.Itoa(20 + r.IntN(4000))
		s.partial = (api{path: f.answer}).marks() && r.IntN(2) == 0
		switch {
		case s.partial:
			s.text = withField(s.text, `"on_deadline": "partial", "deadline_ms": `+within)
		default:
			s.header.Set(headerDeadline, within)
		}
	}
	if r.IntN(10) < 3 {
		s.leavesAfter = 1 + time.Duration(r.ExpFloat64()*float64(100*time.Millisecond))
	}
	return s
}

// fire sends the call and names the outcome: a column of the table.
func (m *mix) fire(client *http.Client, s shot) (outcome string, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	if s.leavesAfter > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.leavesAfter)
	}
	defer cancel()
	answer, header, status, err := ask(ctx, client, m.base+s.path, s.text, s.header)
	switch {
	case ctx.Err() != nil && err != nil:
		return "left", nil
	case err != nil:
		return "", err
	case status == http.StatusTooManyRequests && header.Get("Retry-After") != "":
		return "refused", nil
	case s.deadline && (status == http.StatusGatewayTimeout || status == http.StatusRequestEntityTooLarge || status == http.StatusTooManyRequests):
		return "late", nil
	case status != http.StatusOK:
		return "", fmt.Errorf("status %d: %.300s", status, answer)
	}
	unscored, err := strconv.Atoi(cmp.Or(header.Get(headerUnscored), "0"))
	if err != nil || unscored > 0 && !s.partial {
		return "", fmt.Errorf("%s: %q", headerUnscored, header.Get(headerUnscored))
	}
	if err := s.check(answer, unscored); err != nil {
		return "", err
	}
	return map[bool]string{true: "partial", false: "right"}[unscored > 0], nil
}

// check compares an answer with the scores of each model that may have answered.
func (s shot) check(body []byte, unscored int) error {
	got, err := parseAnswer(s.answer, body)
	if err != nil {
		return err
	}
	var named struct{ Model string }
	if body[0] == '{' {
		if err := json.Unmarshal(body, &named); err != nil {
			return err
		}
	}
	for _, l := range s.libraries {
		err = l.checkItems(s.answer, s.rows, got, s.raw, unscored)
		if err == nil && named.Model != "" && named.Model != l.model {
			err = fmt.Errorf("the answer is of model %s, and names %s", l.model, named.Model)
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// client calls until enough, and tallies every outcome.
func (m *mix) client(t *testing.T, client *http.Client, protocol string, r *rand.Rand, enough func() bool, all *tally) {
	for again := true; again; again = !enough() {
		s := m.shot(r)
		start := time.Now()
		outcome, err := m.fire(client, s)
		if err != nil {
			t.Errorf("%s over %s, %+v: %v", s.path, protocol, s.header, err)
			return
		}
		all.add(protocol, s, outcome, time.Since(start))
		if outcome == "refused" {
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
	}
}

// switchModels loads, unloads and renames models through the admin route until ctx ends.
func (m *mix) switchModels(ctx context.Context, t *testing.T, r *rand.Rand) {
	client := &http.Client{Transport: new(http.Transport)}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		model := []string{"first", "second"}[r.IntN(2)]
		change := []string{
			`{"action": "load", "model": "` + model + `"}`, `{"action": "unload", "model": "` + model + `"}`,
			`{"action": "alias", "alias": "moving", "model": "` + model + `"}`, `{"action": "default", "model": "` + model + `"}`,
		}[r.IntN(4)]
		answer, _, status, err := ask(ctx, client, m.base+"/admin/models", change, http.Header{"Authorization": {"Bearer " + mixKey}})
		if ctx.Err() == nil && (err != nil || status != http.StatusOK && status != http.StatusServiceUnavailable) {
			t.Errorf("%s: status %d, %v: %s", change, status, err, answer)
			return
		}
		time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
	}
}

// A tally counts the outcomes of calls, and has the latencies of those with scores.
type tally struct {
	mu   sync.Mutex
	rows map[[2]string]*tallyRow // by protocol and priority
}

type tallyRow struct {
	outcomes map[string]int
	latency  telemetry.Histogram // ms
}

func (a *tally) add(protocol string, s shot, outcome string, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := [2]string{protocol, cmp.Or(s.header.Get(headerPriority), "interactive")}
	row := a.rows[key]
	if row == nil {
		row = &tallyRow{outcomes: map[string]int{}}
		a.rows[key] = row
	}
	row.outcomes[outcome]++
	if outcome == "right" || outcome == "partial" {
		row.latency.Add(float64(took) / 1e6)
	}
}

// outcomes are the columns of the table.
var outcomes = []string{"right", "partial", "left", "refused", "late"}

// String makes a table of the outcomes.
func (a *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| protocol | priority | %s | P50 ms | P99 ms |\n|---|---|%s", strings.Join(outcomes, " | "), strings.Repeat("---|", len(outcomes)+2))
	for _, key := range slices.SortedFunc(maps.Keys(a.rows), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		row := a.rows[key]
		fmt.Fprintf(&b, "\n| %s | %s |", key[0], key[1])
		for _, outcome := range outcomes {
			fmt.Fprintf(&b, " %d |", row.outcomes[outcome])
		}
		fmt.Fprintf(&b, " %.1f | %.1f |", row.latency.Percentile(50), row.latency.Percentile(99))
	}
	return b.String()
}

// count returns how many calls had an outcome.
func (a *tally) count(outcome string) (n int) {
	for _, row := range a.rows {
		n += row.outcomes[outcome]
	}
	return n
}

// Clients of every format, over HTTP/1.1 and HTTP/2, get the right scores of the right model
// while two models are switched: by a limit that has room for one, and by the admin route.
// Some leave early, have deadlines, take partial answers, or avoid the cache. Nothing is left
// behind. The flags make it longer and larger.
func TestLoadMix(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	kept, err := cache.Open(cache.Config{MemoryBytes: 32 << 10}) // half of the pairs
	if err != nil {
		t.Fatal(err)
	}
	dirs, libraries := map[string]string{}, map[string]*library{}
	var memory *engine.Engine // stays open, for the counters
	for seed, name := range []string{"first", "second"} {
		dirs[name] = t.TempDir()
		weightstest.Write(t, dirs[name], weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: uint64(7 + seed)})
		memory = open(t, engine.Config{Model: dirs[name]})
		l := newLibrary(t, memory, 200, 80)
		l.model, libraries[name] = name, &l
	}
	first, second := libraries["first"], libraries["second"]
	if err := first.checkItems("/predict", []int{0}, []scored{{score: float64(second.logits[0])}}, true, 0); err == nil {
		t.Fatal("both models score alike: an answer of the wrong one would be right")
	}
	m := &mix{names: []string{"first", "other", "second", "moving", ""}, forms: forms(), named: map[string][]*library{
		"first": {first}, "second": {second}, "other": {second}, "moving": {first, second}, "": {first, second},
	}}
	base := activeMemory(t, memory)
	var held footing
	for round, part := range []time.Duration{min(*loadTime/3, time.Minute), *loadTime} { // the first warms up
		var loads atomic.Int64
		models, err := NewModels(t.Context(), ModelsConfig{
			Names: []string{"first", "second"}, Aliases: map[string]string{"other": "second", "moving": "first"},
			Lazy: true, MaxBytes: memory.Info().WeightBytes * 3 / 2,
			Load: func(ctx context.Context, name string) (Engine, error) {
				loads.Add(1)
				return engine.Open(ctx, engine.Config{Model: dirs[name], Device: "cpu", Cache: kept})
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		all := m.round(t, models, func() bool { return time.Since(m.start) > part && loads.Load() > 2 })
		if err := models.Close(); err != nil {
			t.Error(err)
		}
		waitFor(t, "the memory of the models", func() bool { return activeMemory(t, memory) <= base })
		now := takeFooting(t, memory)
		t.Logf("%d clients, %v, %d loads, then %+v%v", *loadClients, part, loads.Load(), now, all)
		if all.count("right") == 0 || all.count("left") == 0 {
			t.Error("the load was not mixed")
		}
		if round == 1 {
			now.check(t, held)
		}
		held = now
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
}

// activeMemory returns the bytes that MLX uses in this process.
func activeMemory(t *testing.T, e *engine.Engine) int64 {
	t.Helper()
	memory, err := e.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return memory.Active
}

// round runs a server and its clients until enough.
func (m *mix) round(t *testing.T, models *Models, enough func() bool) *tally {
	t.Helper()
	all := &tally{rows: map[[2]string]*tallyRow{}}
	s := newServer(t, Config{Models: models, Admin: true, Key: mixKey, Limits: Limits{RequestTimeout: 5 * time.Minute}})
	serveClients(t, s, func(base string) {
		m.base, m.start = base, time.Now()
		ctx, stop := context.WithCancel(t.Context())
		var clients, switching sync.WaitGroup
		switching.Go(func() { m.switchModels(ctx, t, rand.New(rand.NewPCG(6, 7))) })
		for number, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
			transport := &http.Transport{MaxIdleConnsPerHost: *loadClients, Protocols: new(http.Protocols)}
			transport.Protocols.SetHTTP1(number == 0)
			transport.Protocols.SetUnencryptedHTTP2(number == 1)
			defer transport.CloseIdleConnections()
			for i := range *loadClients / 2 {
				clients.Go(func() {
					m.client(t, &http.Client{Transport: transport}, protocol, rand.New(rand.NewPCG(uint64(number), uint64(i))), enough, all)
				})
			}
		}
		clients.Wait()
		stop()
		switching.Wait()
	})
	return all
}
