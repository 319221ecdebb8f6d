package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// cpuTime returns the CPU time of the process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHTTP measures what HTTP adds to a request of 20 documents, with an
// engine that takes no time; cpu-ms/op is CPU time of the process.
func BenchmarkHTTP(b *testing.B) {
	s := newServer(b, Config{})
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	r := rand.New(rand.NewPCG(1, 1))
	texts := make([]string, 20)
	for i := range texts {
		texts[i] = randomText(r, 160)
	}
	for _, a := range apis {
		b.Run(a.path[1:], func(b *testing.B) {
			body := a.body("the city", texts...)
			b.SetBytes(int64(len(body)))
			before := cpuTime(b)
			for b.Loop() {
				if _, _, status, err := ask(context.Background(), server.Client(), server.URL+a.path, body, nil); err != nil || status != 200 {
					b.Fatal(status, err)
				}
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkCached measures requests of 20 documents that the cache has, over HTTP and
// without a connection and a client.
func BenchmarkCached(b *testing.B) {
	s := newServer(b, Config{Engine: openTiny(b, engine.Config{Cache: openCache(b)})})
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	r := rand.New(rand.NewPCG(1, 1))
	texts := make([]string, 20)
	for i := range texts {
		texts[i] = randomText(r, 160)
	}
	for _, a := range apis {
		body := a.body("the city", texts...)
		for name, call := range map[string]func() int{
			"http": func() int {
				_, _, status, err := ask(context.Background(), server.Client(), server.URL+a.path, body, nil)
				if err != nil {
					b.Fatal(err)
				}
				return status
			},
			"handler": func() int { return post(s, a.path, body).Code },
		} {
			call()
			b.Run(name+a.path, func(b *testing.B) {
				before := cpuTime(b)
				for b.Loop() {
					if status := call(); status != http.StatusOK {
						b.Fatal(status)
					}
				}
				b.ReportMetric((cpuTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
			})
		}
	}
}

// BenchmarkHandler measures the same without a connection and a client.
func BenchmarkHandler(b *testing.B) {
	s := newServer(b, Config{})
	r := rand.New(rand.NewPCG(1, 1))
	texts := make([]string, 20)
	for i := range texts {
		texts[i] = randomText(r, 160)
	}
	for _, a := range apis {
		b.Run(a.path[1:], func(b *testing.B) {
			body := a.body("the city", texts...)
			before := cpuTime(b)
			for b.Loop() {
				if w := post(s, a.path, body); w.Code != 200 {
					b.Fatal(w.Code)
				}
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkConcurrency sends requests of 20 documents to the builtin model, in
// process and over HTTP, from several clients at once.
func BenchmarkConcurrency(b *testing.B) {
	e := openBuiltin(b)
	server := httptest.NewServer(newServer(b, Config{Engine: e}).Handler())
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	calls := map[string]func(texts []string) error{
		"in-process": func(texts []string) error {
			_, err := e.Rerank(context.Background(), "the city", texts, engine.RerankOptions{})
			return err
		},
		"http": func(texts []string) error {
			_, _, status, err := ask(context.Background(), client, server.URL+"/v2/rerank", apis[2].body("the city", texts...), nil)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("status %d", status)
			}
			return err
		},
	}
	for _, callers := range []int{1, 8, 64} {
		for _, name := range []string{"in-process", "http"} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) { benchClients(b, callers, calls[name]) })
		}
	}
}

// BenchmarkPriorities measures an interactive client that sends 20 documents after each
// answer: alone, beside 8 clients that do the same at the same priority, and beside 8
// of batch priority. Run it with -benchtime 300x: each request is a sample.
func BenchmarkPriorities(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *engine.Engine{
		"tiny": func(t testing.TB) *engine.Engine { return openTiny(t, engine.Config{}) }, "builtin": openBuiltin,
	} {
		server := httptest.NewServer(newServer(b, Config{Engine: open(b)}).Handler())
		defer server.Close()
		for _, beside := range []struct {
			name     string
			clients  int
			priority string
		}{{"alone", 0, ""}, {"beside=interactive", 8, "interactive"}, {"beside=batch", 8, "batch"}} {
			b.Run(name+"/"+beside.name, func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var wg sync.WaitGroup
				var others atomic.Int64
				for i := range beside.clients {
					wg.Go(func() {
						r := rand.New(rand.NewPCG(8, uint64(i)))
						for ctx.Err() == nil {
							if err := rank20(ctx, server.URL, r, beside.priority); err != nil && ctx.Err() == nil {
								b.Error(err)
								return
							}
							others.Add(20)
						}
					})
				}
				r := rand.New(rand.NewPCG(8, 100))
				var took []float64
				start := time.Now()
				for b.Loop() {
					began := time.Now()
					if err := rank20(ctx, server.URL, r, "interactive"); err != nil {
						b.Fatal(err)
					}
					took = append(took, telemetry.Milliseconds(time.Since(began)))
				}
				b.ReportMetric(float64(others.Load())/time.Since(start).Seconds(), "others-pairs/s")
				cancel()
				wg.Wait()
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2], "p50-ms")
				b.ReportMetric(took[len(took)*99/100], "p99-ms")
			})
		}
	}
}

// rank20 ranks 20 documents of 1 to 80 words.
func rank20(ctx context.Context, url string, r *rand.Rand, priority string) error {
	texts := make([]string, 20)
	for i := range texts {
		texts[i] = randomText(r, 80)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v2/rerank", strings.NewReader(apis[2].body("the city", texts...)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(headerPriority, priority)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", answer.StatusCode)
	}
	return err
}

func benchClients(b *testing.B, callers int, call func([]string) error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var took []float64
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	b.ResetTimer()
	start := time.Now()
	for caller := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(caller)))
			for range left {
				texts := make([]string, 20)
				for i := range texts {
					texts[i] = randomText(r, 80)
				}
				began := time.Now()
				if err := call(texts); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, telemetry.Milliseconds(time.Since(began)))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "requests/s")
	b.ReportMetric(took[len(took)/2], "p50-ms")
	b.ReportMetric(took[len(took)*99/100], "p99-ms")
}
