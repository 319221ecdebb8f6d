package mlx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ebitengine/purego"
)

// faulty returns the build of libmlxrank that injects faults, and a function that
// asks for one with the nth microbatch from now.
func faulty(t testing.TB) (*Library, func(fault string, nth int)) {
	t.Helper()
	l, err := Load(filepath.Join("..", "build", "native", "faults", LibraryFile))
	if err != nil {
		t.Fatalf("%v\nbuild it with: python3 scripts/setup.py faults", err)
	}
	handle, err := openShared(l.info.Path)
	if err != nil {
		t.Fatal(err)
	}
	var inject func(fault string, nth int32) int32
	purego.RegisterLibFunc(&inject, handle, "mlxrank_inject")
	return l, func(fault string, nth int) {
		t.Helper()
		if inject(fault, int32(nth)) != 0 {
			t.Fatalf("there is no fault %q", fault)
		}
	}
}

// bothGraphs runs f for a session of the fused and one of the unfused graph. On the
// CPU float16 has no kernels.
func bothGraphs(t *testing.T, f func(t *testing.T, dtype DType)) {
	for _, dtype := range []DType{Float32, Float16} {
		t.Run(string(dtype), func(t *testing.T) { f(t, dtype) })
	}
}

func openFaulty(t testing.TB, l *Library, opts Options) *Session {
	t.Helper()
	opts.Device = testDevice()
	s, err := l.Open(smallConfig, randomTensors(smallConfig), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// oneMicrobatch returns random pairs that one graph computes.
func oneMicrobatch(r *rand.Rand, pairs int) Batch {
	b := randomBatch(r, pairs)
	b.Microbatches = []int32{int32(pairs)}
	return b
}

func TestShippedLibraryHasNoFaults(t *testing.T) {
	handle, err := openShared(library(t).info.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := purego.Dlsym(handle, "mlxrank_inject"); err == nil {
		t.Error("the library that ships has faults")
	}
	if l, _ := faulty(t); l.info.Path == library(t).info.Path {
		t.Errorf("both libraries are %s", l.info.Path)
	}
}

// Of two batches in flight the one with the fault fails, in whichever order they
// are. The other one's scores are right, and so are the next ones.
func TestFaultsReachTheirBatch(t *testing.T) {
	for _, test := range []struct {
		fault  string
		target error
		text   string
	}{
		{"late", nil, "injected late error"},
		{"memory", nil, "no memory for a microbatch of 5 pairs"},
		{"unknown", nil, "unknown exception of type i"},
		{"nan", ErrNotFinite, "logit 0 of pair 4 is nan"},
	} {
		t.Run(test.fault, func(t *testing.T) {
			bothGraphs(t, func(t *testing.T, dtype DType) {
				l, inject := faulty(t)
				s := openFaulty(t, l, Options{DType: dtype, Threads: 1})
				batches := []Batch{oneMicrobatch(rand.New(rand.NewPCG(1, 1)), 5), oneMicrobatch(rand.New(rand.NewPCG(2, 2)), 5)}
				want := [][]float32{score(t, s, batches[0]), score(t, s, batches[1])}
				for round := range 20 {
					bad := round % 2
					inject(test.fault, 1+bad)
					var tickets []Ticket
					for _, b := range batches {
						ticket, err := s.Submit(b)
						if err != nil {
							t.Fatal(err)
						}
						tickets = append(tickets, ticket)
					}
					for i, ticket := range tickets {
						out := make([]float32, 5)
						_, err := s.Collect(ticket, out)
						switch {
						case i != bad && (err != nil || !slices.Equal(out, want[i])):
							t.Fatalf("innocent batch %d of round %d: %v, error %v, want %v", i, round, out, err, want[i])
						case i == bad && err == nil:
							t.Fatalf("batch %d of round %d has scores %v", i, round, out)
						case i == bad && (!strings.Contains(err.Error(), test.text) || test.target != nil && !errors.Is(err, test.target)):
							t.Fatalf("error %q lacks %q or is not %v", err, test.text, test.target)
						}
					}
					if got := score(t, s, batches[bad]); !slices.Equal(got, want[bad]) {
						t.Fatalf("after the fault: %v, want %v", got, want[bad])
					}
				}
			})
		})
	}
}

// A finite value that is wrong is no error here: choosing a variant finds it, by
// comparing scores.
func TestWrongRowIsNoError(t *testing.T) {
	bothGraphs(t, func(t *testing.T, dtype DType) {
		l, inject := faulty(t)
		s := openFaulty(t, l, Options{DType: dtype, Threads: 1})
		b := oneMicrobatch(rand.New(rand.NewPCG(3, 3)), 4)
		want := score(t, s, b)
		inject("wrong", 1)
		got := score(t, s, b)
		if !slices.Equal(got[:3], want[:3]) || got[3]-want[3] < 0.9 {
			t.Errorf("scores %v, want %v with the last one 1 more", got, want)
		}
	})
}

// A microbatch that hangs has no scores before it returns, and right ones then. The
// engine's watchdog answers its callers meanwhile.
func TestHang(t *testing.T) {
	bothGraphs(t, func(t *testing.T, dtype DType) {
		l, inject := faulty(t)
		s := openFaulty(t, l, Options{DType: dtype, Threads: 1})
		b := oneMicrobatch(rand.New(rand.NewPCG(4, 4)), 4)
		want := score(t, s, b)
		inject("hang", 1)
		ticket, err := s.Submit(b)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]float32, 4)
		done := make(chan error, 1)
		go func() {
			_, err := s.Collect(ticket, out)
			done <- err
		}()
		select {
		case err := <-done:
			t.Errorf("collected while it hangs: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		if err := releaseUntil(inject, done); err != nil || !slices.Equal(out, want) {
			t.Errorf("after the release: %v, error %v, want %v", out, err, want)
		}
	})
}

// releaseUntil releases what hangs until a call is done. On a busy machine a batch may
// reach the hang after a release.
func releaseUntil(inject func(fault string, nth int), done <-chan error) error {
	for {
		inject("release", 0)
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Two models with 32 callers each, sessions that are opened and closed meanwhile,
// and faults now and then: every score that comes equals a single caller's.
func TestManyCallersOfTwoModels(t *testing.T) {
	bothGraphs(t, func(t *testing.T, dtype DType) {
		l, inject := faulty(t)
		other := smallConfig
		other.HiddenSize, other.IntermediateSize, other.Labels = 64, 128, 2
		other = bert(other)
		var models []*Model
		for _, cfg := range []ModelConfig{smallConfig, other} {
			m, err := l.OpenModel(cfg, randomTensors(cfg), Options{Device: testDevice(), DType: dtype})
			if err != nil {
				t.Fatal(err)
			}
			models = append(models, m)
		}
		var callers sync.WaitGroup
		failed := make(chan error, 1000)
		for i := range 64 {
			m := models[i%2]
			b := oneMicrobatch(rand.New(rand.NewPCG(5, uint64(i))), 1+i%7)
			alone, err := m.Open(Options{Threads: 1})
			if err != nil {
				t.Fatal(err)
			}
			want := score(t, alone, b)
			if err := alone.Close(); err != nil {
				t.Fatal(err)
			}
			callers.Go(func() { failed <- callAgainAndAgain(m, b, want) })
		}
		for range 12 {
			inject("late", 1+rand.IntN(64))
			inject("nan", 1+rand.IntN(64))
			time.Sleep(5 * time.Millisecond)
		}
		callers.Wait()
		inject("release", 0)
		faults := 0
		for range 64 {
			err := <-failed
			var native *NativeError
			if errors.As(err, &native) && (errors.Is(err, ErrNotFinite) || strings.Contains(native.Text, "injected")) {
				faults++
			} else if err != nil {
				t.Error(err)
			}
		}
		t.Logf("%d callers had a fault", faults)
		if err := errors.Join(models[0].Close(), models[1].Close()); err != nil {
			t.Error(err)
		}
		memory, err := l.Memory()
		if err != nil || memory.Models != 0 || memory.Sessions != 0 {
			t.Errorf("%d models and %d sessions are open, error %v", memory.Models, memory.Sessions, err)
		}
	})
}

// TestTemporary distinguishes calls that failed from calls that the library refused.
func TestTemporary(t *testing.T) {
	for status, want := range map[int]bool{
		statusInvalid: false, statusMismatch: false, statusNoDevice: false, statusNotFinite: false, statusBusy: true, 4: true, 99: true,
	} {
		if got := (&NativeError{Status: status}).Temporary(); got != want {
			t.Errorf("status %d is temporary: %v, want %v", status, got, want)
		}
	}
}

// callAgainAndAgain opens a session twice and scores the batch in it. It
// returns the last injected fault, or at once a wrong score.
func callAgainAndAgain(m *Model, b Batch, want []float32) error {
	var fault error
	for range 2 {
		s, err := m.Open(Options{Threads: 2})
		if err != nil {
			return err
		}
		for range 2 {
			ticket, err := s.Submit(b)
			if err != nil {
				return errors.Join(err, s.Close())
			}
			got := make([]float32, len(want))
			if _, err := s.Collect(ticket, got); err != nil {
				fault = err
			} else if !slices.Equal(got, want) {
				return errors.Join(fmt.Errorf("scores %v, want %v", got, want), s.Close())
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
	return fault
}
