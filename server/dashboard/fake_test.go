package dashboard

import (
	"errors"
	"sync"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// A fakeEngine has the figures that a test sets.
type fakeEngine struct {
	mu       sync.Mutex
	stats    engine.Stats
	noMemory bool
	reads    int // of Stats
}

func (f *fakeEngine) set(change func(*engine.Stats)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.stats)
}

func (f *fakeEngine) Stats() engine.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return f.stats
}

func (f *fakeEngine) readings() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

func (f *fakeEngine) Info() engine.Info {
	return engine.Info{Model: "fake", Device: "cpu", DType: "float32", MaxLength: 512, MaxBatch: 256}
}

func (f *fakeEngine) Memory() (engine.Memory, error) {
	if f.noMemory {
		return engine.Memory{}, errors.New("no figures")
	}
	return engine.Memory{Active: 3 << 20, Cache: 1 << 20, Peak: 5 << 20}, nil
}

// answer counts a request of two pairs with 30 and 50 tokens.
func (f *fakeEngine) answer(latencyMS float64) {
	f.set(func(s *engine.Stats) {
		s.Requests++
		s.Pairs += 2
		s.Tokens += 80
		s.GridTokens += 90
		s.ComputedTokens += 100
		if s.PairsByTokens == nil {
			s.PairsByTokens = make([]int64, 51)
		}
		counts := append([]int64(nil), s.PairsByTokens...)
		counts[30]++
		counts[50]++
		s.PairsByTokens = counts
		for h, share := range map[*engine.Histogram]float64{&s.Latency: 1, &s.Inference: 0.6, &s.Tokenization: 0.25, &s.QueueWait: 0.1, &s.Other: 0.05} {
			h.Count++
			h.Sum += share * latencyMS
		}
	})
}

// pass lets time pass, in part of which the device was busy.
func (f *fakeEngine) pass(wall, busy time.Duration) {
	f.set(func(s *engine.Stats) { s.Elapsed += wall; s.Busy += busy })
}
