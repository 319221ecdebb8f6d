package server

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/system"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

var (
	loadTime    = flag.Duration("load-time", time.Second, "duration of TestLoad")
	loadClients = flag.Int("load-clients", 200, "concurrent clients of TestLoad and TestLoadBuiltin")
)

// A library holds texts and the score of each when scored alone.
type library struct {
	model  string // that requests name, "" for none
	query  string
	texts  []string
	scores []float64
}

func newLibrary(t testing.TB, e *engine.Engine, texts, words int) library {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	l := library{query: randomText(r, 8)}
	for i := range texts {
		l.texts = append(l.texts, fmt.Sprintf("%d %s", i, randomText(r, 1+i%words)))
		one, err := e.Score(context.Background(), []engine.Pair{{Query: l.query, Document: l.texts[i]}})
		if err != nil {
			t.Fatal(err)
		}
		l.scores = append(l.scores, float64(engine.Sigmoid(one.Logits[0])))
	}
	return l
}

// check compares an answer with the scores of the texts alone.
func (l *library) check(path string, rows []int, body []byte) error {
	got, err := parseAnswer(path, body)
	if err != nil {
		return err
	}
	if len(got) != len(rows) {
		return fmt.Errorf("%d results, want %d", len(got), len(rows))
	}
	seen := make([]bool, len(rows))
	for i, item := range got {
		if item.index < 0 || item.index >= len(rows) || seen[item.index] {
			return fmt.Errorf("index %d of %d, twice or out of range", item.index, len(rows))
		}
		seen[item.index] = true
		if want := l.scores[rows[item.index]]; item.score-want > 1e-6 || want-item.score > 1e-6 {
			return fmt.Errorf("document %d scores %v, alone %v", rows[item.index], item.score, want)
		}
		if i > 0 && !(api{path: path}).keepsOrder() && got[i-1].score < item.score {
			return fmt.Errorf("rank %d scores more than the one before", i)
		}
	}
	return nil
}

// mixed lists numbers of documents of requests.
var mixed = []int{1, 1, 1, 2, 5, 10, 20, 60}

// load sends requests of mixed sizes to all APIs until enough, and cancels a few.
func (l *library) load(t *testing.T, client *http.Client, base string, sizes []int, r *rand.Rand, enough func() bool, scores *atomic.Int64) {
	for again := true; again; again = !enough() {
		rows := make([]int, sizes[r.IntN(len(sizes))])
		texts := make([]string, len(rows))
		for i := range rows {
			rows[i] = r.IntN(len(l.texts))
			texts[i] = l.texts[rows[i]]
		}
		a := apis[r.IntN(len(apis))]
		ctx, cancel := context.WithCancel(context.Background())
		if r.IntN(20) == 0 {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(20))*time.Millisecond)
		}
		call := a.body(l.query, texts...)
		if l.model != "" {
			call = strings.Replace(call, "{", `{"model": "`+l.model+`", `, 1)
		}
		body, status, err := ask(ctx, client, base+a.path, call)
		gaveUp := ctx.Err() != nil
		cancel()
		switch {
		case gaveUp && err != nil:
		case err != nil || status != 200:
			t.Errorf("%s: status %d, %v: %.200s", a.path, status, err, body)
			return
		default:
			if err := l.check(a.path, rows, body); err != nil {
				t.Errorf("%s: %v", a.path, err)
				return
			}
			scores.Add(int64(len(rows)))
		}
	}
}

func ask(ctx context.Context, client *http.Client, url, body string) (answer []byte, status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	w, err := client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	answer, err = io.ReadAll(w.Body)
	if cerr := w.Body.Close(); err == nil {
		err = cerr
	}
	return answer, w.StatusCode, err
}

// Many concurrent clients all get right scores and leave nothing behind. The
// flags make it longer and larger.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := openTiny(t, engine.Config{})
	l := newLibrary(t, e, 200, 80)
	var held footing
	for round, part := range []time.Duration{*loadTime / 3, *loadTime} { // the first warms up
		scores, requests := loadRound(t, e, &l, mixed, part)
		waitFor(t, "the end of all goroutines", func() bool { return serving() == 0 })
		now := takeFooting(t, e)
		t.Logf("%d scores of %d requests right in %v, then %+v", scores, requests, part, now)
		grown := now.active != held.active || now.heap > held.heap+4<<20 || !raceDetector && now.footprint > 1.1*held.footprint+32
		if round == 1 && (grown || now.live != 0) {
			t.Errorf("left behind: %+v, before %+v", now, held)
		}
		held = now
	}
}

// The same with a model of real size, one request per client and short texts.
func TestLoadBuiltin(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	e := openBuiltin(t)
	l := newLibrary(t, e, 50, 12)
	scores, requests := loadRound(t, e, &l, []int{1, 1, 2}, 0)
	t.Logf("%d scores of %d requests right", scores, requests)
	if requests < int64(*loadClients)*9/10 {
		t.Errorf("%d requests of %d clients", requests, *loadClients)
	}
}

// loadRound runs a server under load from start to shutdown.
func loadRound(t *testing.T, e *engine.Engine, l *library, sizes []int, part time.Duration) (scores, requests int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	before := e.Stats().Requests
	return loadServer(t, newServer(t, Config{Engine: e}), listener, []*library{l}, sizes, *loadClients, part), e.Stats().Requests - before
}

// loadServer runs a server with clients of each library, and returns how many scores were
// right.
func loadServer(t *testing.T, s *Server, listener net.Listener, libraries []*library, sizes []int, clients int, part time.Duration) int64 {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	var right atomic.Int64
	start := time.Now()
	for i := range clients {
		wg.Go(func() {
			l := libraries[i%len(libraries)]
			l.load(t, client, "http://"+listener.Addr().String(), sizes, rand.New(rand.NewPCG(5, uint64(i))), func() bool { return time.Since(start) > part }, &right)
		})
	}
	wg.Wait()
	transport.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := s.bodies.taken.Load(); n != 0 || s.inProgress() != 0 {
		t.Errorf("%d bytes and %d requests are held", n, s.inProgress())
	}
	return right.Load()
}

// Two models that have room for one only are unloaded for each other under load, and every
// answer has the scores of its model. The memory of both is free in the end.
func TestLoadModels(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	dirs, libraries, opens := map[string]string{}, []*library(nil), atomic.Int64{}
	var bytes int64
	for seed, name := range []string{"first", "second"} {
		dirs[name] = t.TempDir()
		weightstest.Write(t, dirs[name], weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: uint64(7 + seed)})
		e := open(t, engine.Config{Model: dirs[name]})
		l := newLibrary(t, e, 100, 40)
		l.model, bytes = name, e.Info().WeightBytes
		libraries = append(libraries, &l)
	}
	memory := open(t, engine.Config{Model: dirs["first"]}) // stays open, for the counters
	before, err := memory.Memory()
	if err != nil {
		t.Fatal(err)
	}
	models, err := NewModels(t.Context(), ModelsConfig{
		Names: []string{"first", "second"}, Lazy: true, MaxBytes: bytes + bytes/2,
		Load: func(ctx context.Context, name string) (Engine, error) {
			opens.Add(1)
			return engine.Open(ctx, engine.Config{Model: dirs[name], Device: "cpu"})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scores := loadServer(t, newServer(t, Config{Models: models}), listener, libraries, mixed, min(*loadClients, 40), *loadTime)
	t.Logf("%d scores right with %d loads", scores, opens.Load())
	if scores == 0 || opens.Load() < 4 {
		t.Errorf("%d scores with %d loads: the models were not switched", scores, opens.Load())
	}
	if err := models.Close(); err != nil {
		t.Error(err)
	}
	after, err := memory.Memory()
	if err != nil || after.Active != before.Active {
		t.Errorf("MLX holds %d bytes, before %d; error %v", after.Active, before.Active, err)
	}
}

// serving counts the goroutines of this process's servers and of their connections.
func serving() int {
	stacks := make([]byte, 16<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for _, stack := range bytes.Split(stacks, []byte("\n\n")) {
		if bytes.Contains(stack, []byte("net/http.(*conn).serve(")) || bytes.Contains(stack, []byte("/server.(*Server).")) {
			n++
		}
	}
	return n
}

// A footing is the memory that a process must return to.
type footing struct {
	active    int64   // MLX's memory
	heap      int64   // Go's, without garbage
	footprint float64 // MB
	live      int     // requests in the engine
}

func takeFooting(t *testing.T, e *engine.Engine) footing {
	t.Helper()
	debug.FreeOSMemory()
	memory, err := e.Memory()
	if err != nil {
		t.Fatal(err)
	}
	sampler, err := system.New()
	if err != nil {
		t.Fatal(err)
	}
	sample, err := sampler.Sample(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "an idle engine", func() bool { return e.Stats().Live == 0 })
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return footing{memory.Active, int64(heap.HeapAlloc), *sample.FootprintMB, e.Stats().Live}
}
