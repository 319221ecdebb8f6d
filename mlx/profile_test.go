package mlx

import (
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"
)

// panelConfig has sizes that fill whole panels of every instruction set.
var panelConfig = ModelConfig{
	VocabSize: 101, HiddenSize: 192, Layers: 3, Heads: 6, IntermediateSize: 768, MaxPositions: 64,
	TypeVocabSize: 2, Labels: 1, LayerNormEps: 1e-12, Activation: GELU,
}

func profileOf(t *testing.T, s *Session) (Profile, map[string]Phase) {
	t.Helper()
	p, err := s.Profile()
	if err != nil {
		t.Fatal(err)
	}
	phases := make(map[string]Phase)
	for _, phase := range p.Phases {
		phases[phase.Name] = phase
	}
	if len(phases) != len(phaseNames) {
		t.Fatalf("phases %v", p.Phases)
	}
	return p, phases
}

// Nothing is counted before a profile is asked for, nor after its end.
func checkNoProfile(t *testing.T, s *Session) {
	t.Helper()
	p, _ := profileOf(t, s)
	for _, phase := range p.Phases {
		if phase.Time != 0 || phase.Calls != 0 || phase.FLOPs != 0 {
			t.Errorf("%s has figures, though nobody asked: %+v", phase.Name, phase)
		}
	}
	if p.Pairs != 0 || p.Tokens != 0 || p.Busy != 0 || p.Pass != 0 || p.Helped != 0 || p.MatmulFLOPsNeeded != 0 {
		t.Errorf("figures though nobody asked: %+v", p)
	}
}

func TestProfileAddsUp(t *testing.T) {
	for _, graph := range []string{"0", "1"} {
		t.Run("plain graph "+graph, func(t *testing.T) {
			t.Setenv("MLXRANK_PLAIN_GRAPH", graph)
			s := openSession(t, panelConfig, Options{Device: CPU, Threads: 2})
			b := randomBatch(rand.New(rand.NewPCG(7, 8)), 100)
			score(t, s, b)
			checkNoProfile(t, s)
			if err := s.StartProfile(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			for range 3 {
				score(t, s, b)
			}
			elapsed := time.Since(start)
			p, phases := profileOf(t, s)
			checkProfile(t, p, phases, 3*int64(len(b.Lengths)), 3*int64(len(b.IDs)), elapsed)
			if packed := graph == "0" && runtime.GOOS != "darwin"; packed {
				checkPacked(t, p, phases)
			} else if phases[Activations].Time <= 0 {
				t.Error("MLX's own graph has no time of the activation")
			}
			if err := s.StopProfile(); err != nil {
				t.Fatal(err)
			}
			score(t, s, b)
			checkNoProfile(t, s)
		})
	}
}

func checkProfile(t *testing.T, p Profile, phases map[string]Phase, pairs, tokens int64, elapsed time.Duration) {
	t.Helper()
	if p.Pairs != pairs || p.Tokens != tokens || p.Workers != 2 {
		t.Errorf("%d pairs of %d tokens on %d lanes, want %d of %d on 2", p.Pairs, p.Tokens, p.Workers, pairs, tokens)
	}
	var sum time.Duration
	for _, phase := range p.Phases {
		if phase.Time < 0 {
			t.Errorf("%s took %v", phase.Name, phase.Time)
		}
		sum += phase.Time
	}
	lanes := time.Duration(p.Workers)
	t.Logf("busy %v of %v, passes %v, helped %v, sum %v: %+v", p.Busy, elapsed, p.Pass, p.Helped, sum, p.Phases)
	switch {
	case p.Busy <= 0 || p.Busy > elapsed:
		t.Errorf("busy for %v of %v", p.Busy, elapsed)
	case p.Pass > lanes*p.Busy:
		t.Errorf("passes took %v, more than 2 lanes in %v", p.Pass, p.Busy)
	case sum-p.Helped > p.Pass:
		t.Errorf("phases took %v on the lanes, more than the passes' %v", sum-p.Helped, p.Pass)
	case sum < p.Pass/10:
		t.Errorf("phases took %v of the passes' %v: most of the work has no name", sum, p.Pass)
	}
	for _, name := range []string{Matmuls, Attention, AddNorm, Embeddings, GraphBuilding, Copies} {
		if phases[name].Time <= 0 || phases[name].Calls < 1 {
			t.Errorf("%s: %+v", name, phases[name])
		}
	}
	if done := phases[Matmuls].FLOPs; done < p.MatmulFLOPsNeeded {
		t.Errorf("products of %d FLOPs, needed are %d", done, p.MatmulFLOPsNeeded)
	}
	if done := phases[Attention].FLOPs; done < p.AttentionFLOPsNeeded {
		t.Errorf("attention of %d FLOPs, needed are %d", done, p.AttentionFLOPsNeeded)
	}
}

// The kernels compute no padding, and the activation in the products' registers.
func checkPacked(t *testing.T, p Profile, phases map[string]Phase) {
	t.Helper()
	if done, needed := phases[Matmuls].FLOPs, p.MatmulFLOPsNeeded; float64(done) > 1.01*float64(needed) {
		t.Errorf("products of %d FLOPs, more than 1 %% over the %d needed", done, needed)
	}
	if phases[Activations].Calls != 0 {
		t.Errorf("the activation is part of the products: %+v", phases[Activations])
	}
}

// A batch of one pair is one shard, whose kernels two threads share.
func TestProfileOfHelpers(t *testing.T) {
	if os.Getenv("MLXRANK_PLAIN_GRAPH") == "1" || runtime.GOOS == "darwin" || runtime.NumCPU() < 2 {
		return // without kernels, or another processor, there are no helpers
	}
	s := openSession(t, panelConfig, Options{Device: CPU, Threads: 2})
	b := Batch{IDs: make([]int32, 64), TypeIDs: make([]int32, 64), Lengths: []int32{64}}
	if err := s.StartProfile(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		score(t, s, b)
	}
	p, phases := profileOf(t, s)
	if p.Helped <= 0 || p.Helped > time.Duration(p.Workers)*p.Busy {
		t.Errorf("helped for %v of %v", p.Helped, p.Busy)
	}
	if done, needed := phases[Matmuls].FLOPs, p.MatmulFLOPsNeeded; done < needed || float64(done) > 1.02*float64(needed) {
		t.Errorf("products of %d FLOPs, needed are %d", done, needed)
	}
}

func TestProfileOfClosedSession(t *testing.T) {
	s, err := library(t).Open(smallConfig, randomTensors(smallConfig), Options{Device: CPU})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.StartProfile(); err == nil {
		t.Error("a closed session began a profile")
	}
	if _, err := s.Profile(); err == nil {
		t.Error("a closed session has a profile")
	}
}
