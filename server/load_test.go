package server

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/system"
)

var (
	loadTime    = flag.Duration("load-time", time.Second, "duration of TestLoad and TestLoadMix")
	loadClients = flag.Int("load-clients", 200, "concurrent clients of TestLoad, TestLoadMix and TestLoadBuiltin")
)

// A library holds texts and the score of each when scored alone.
type library struct {
	model  string // that requests name, "" for none
	query  string
	texts  []string
	logits []float32
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
		l.logits = append(l.logits, one.Logits[0])
	}
	return l
}

// check compares an answer with the scores of the texts alone.
func (l *library) check(path string, rows []int, body []byte) error {
	got, err := parseAnswer(path, body)
	if err != nil {
		return err
	}
	return l.checkItems(path, rows, got, false, 0)
}

// checkItems compares results with the scores of the texts alone, or with their logits. The
// last results have no score, in the order of the request, where some are unscored.
func (l *library) checkItems(path string, rows []int, got []scored, raw bool, unscored int) error {
	if len(got) != len(rows) {
		return fmt.Errorf("%d results, want %d", len(got), len(rows))
	}
	seen := make([]bool, len(rows))
	for i, item := range got {
		if item.index < 0 || item.index >= len(rows) || seen[item.index] {
			return fmt.Errorf("index %d of %d, twice or out of range", item.index, len(rows))
		}
		seen[item.index] = true
		if item.unscored != (i >= len(rows)-unscored) {
			return fmt.Errorf("rank %d of %d is unscored: %t, with %d that are", i, len(rows), item.unscored, unscored)
		}
		ordered := i > 0 && !(api{path: path}).keepsOrder() && got[i-1].unscored == item.unscored
		if item.unscored {
			if ordered && got[i-1].index > item.index {
				return fmt.Errorf("unscored document %d stands behind %d", item.index, got[i-1].index)
			}
			continue
		}
		want := float64(l.logits[rows[item.index]])
		if !raw {
			want = 1 / (1 + math.Exp(-want))
		}
		if math.Abs(item.score-want) > 1e-6 {
			return fmt.Errorf("document %d scores %v, alone %v", rows[item.index], item.score, want)
		}
		if ordered && got[i-1].score < item.score {
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
		body, _, status, err := ask(ctx, client, base+a.path, a.body(l.query, texts...), nil)
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

// ask posts JSON, with more headers.
func ask(ctx context.Context, client *http.Client, url, body string, more http.Header) (answer []byte, header http.Header, status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, nil, 0, err
	}
	maps.Copy(r.Header, more)
	r.Header.Set("Content-Type", "application/json")
	w, err := client.Do(r)
	if err != nil {
		return nil, nil, 0, err
	}
	answer, err = io.ReadAll(w.Body)
	if cerr := w.Body.Close(); err == nil {
		err = cerr
	}
	return answer, w.Header, w.StatusCode, err
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
		now := takeFooting(t, e)
		t.Logf("%d scores of %d requests right in %v, then %+v", scores, requests, part, now)
		if round == 1 {
			now.check(t, held)
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
	before := e.Stats().Requests
	var right atomic.Int64
	serveClients(t, newServer(t, Config{Engine: e}), func(base string) {
		transport := &http.Transport{MaxIdleConnsPerHost: *loadClients}
		defer transport.CloseIdleConnections()
		var clients sync.WaitGroup
		start := time.Now()
		for i := range *loadClients {
			clients.Go(func() {
				l.load(t, &http.Client{Transport: transport}, base, sizes, rand.New(rand.NewPCG(5, uint64(i))), func() bool { return time.Since(start) > part }, &right)
			})
		}
		clients.Wait()
	})
	return right.Load(), e.Stats().Requests - before
}

// serveClients runs a server until its clients have ended, after which it must hold nothing.
func serveClients(t *testing.T, s *Server, clients func(base string)) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, listener) }()
	clients("http://" + listener.Addr().String())
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := s.bodies.taken.Load(); n != 0 || s.inProgress() != 0 {
		t.Errorf("%d bytes and %d requests are held", n, s.inProgress())
	}
	waitFor(t, "the end of all goroutines", func() bool { return serving() == 0 })
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

// A footing is what a process must return to.
type footing struct {
	active     int64   // MLX's memory
	heap       int64   // Go's, without garbage
	footprint  float64 // MB
	live       int     // requests in the engine
	goroutines int
	files      int // descriptors
}

func takeFooting(t *testing.T, e *engine.Engine) footing {
	t.Helper()
	waitFor(t, "an idle engine", func() bool { return e.Stats().Live == 0 })
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
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return footing{memory.Active, int64(heap.HeapAlloc), *sample.FootprintMB, e.Stats().Live, runtime.NumGoroutine(), len(files)}
}

// check fails unless a footing is like an earlier one. The race detector's own memory grows.
func (f footing) check(t *testing.T, before footing) {
	t.Helper()
	if f.active > before.active || f.heap > before.heap+4<<20 || !raceDetector && f.footprint > 1.1*before.footprint+32 ||
		f.live != 0 || f.goroutines > before.goroutines+few || f.files > before.files+few {
		t.Errorf("left behind: %+v, before %+v", f, before)
	}
}

// few is the number of goroutines and descriptors that the runtime and other tests may have.
const few = 8
