package mlx

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// panelConfig has sizes that are whole panels of every instruction set.
var panelConfig = bert(ModelConfig{
	VocabSize: 101, HiddenSize: 192, Layers: 3, Heads: 6, IntermediateSize: 768, MaxPositions: 64,
	TypeVocabSize: 2, Labels: 1, LayerNormEps: 1e-12, Activation: GELU,
})

func readProfile(t *testing.T, s *Session) (Profile, map[string]Phase) {
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

// A session counts nothing before StartProfile, nor after the profile ends.
func checkNoProfile(t *testing.T, s *Session) {
	t.Helper()
	p, _ := readProfile(t, s)
	for _, phase := range p.Phases {
		if phase.Time != 0 || phase.Calls != 0 || phase.FLOPs != 0 {
			t.Errorf("%s has figures without a profile: %+v", phase.Name, phase)
		}
	}
	if p.Pairs != 0 || p.Tokens != 0 || p.Busy != 0 || p.Pass != 0 || p.Helped != 0 || p.MatmulFLOPsNeeded != 0 {
		t.Errorf("figures without a profile: %+v", p)
	}
}

func TestProfileAddsUp(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	for _, graph := range []string{"0", "1"} {
		t.Run("unfused graph "+graph, func(t *testing.T) {
			t.Setenv("MLXRANK_UNFUSED_GRAPH", graph)
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
			p, phases := readProfile(t, s)
			checkProfile(t, p, phases, 3*int64(len(b.Lengths)), 3*int64(len(b.IDs)), elapsed)
			if fused := graph == "0" && runtime.GOOS != "darwin"; fused {
				checkFused(t, p, phases)
			} else if phases[Activations].Time <= 0 {
				t.Error("the unfused graph has no time of the activation")
			}
			err := callHere("session_profile", func(err *byte, errLen int32) int32 {
				return s.library.native.profile(s.handle.Load(), 0, err, errLen)
			})
			if err != nil {
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
		t.Errorf("%d pairs of %d tokens on %d workers, want %d of %d on 2", p.Pairs, p.Tokens, p.Workers, pairs, tokens)
	}
	var sum time.Duration
	for _, phase := range p.Phases {
		if phase.Time < 0 {
			t.Errorf("%s took %v", phase.Name, phase.Time)
		}
		sum += phase.Time
	}
	workers := time.Duration(p.Workers)
	t.Logf("busy %v of %v, passes %v, helped %v, sum %v: %+v", p.Busy, elapsed, p.Pass, p.Helped, sum, p.Phases)
	switch {
	case p.Busy <= 0 || p.Busy > elapsed:
		t.Errorf("busy for %v of %v", p.Busy, elapsed)
	case p.Pass > workers*p.Busy:
		t.Errorf("passes took %v, more than 2 workers in %v", p.Pass, p.Busy)
	case sum-p.Helped > p.Pass:
		t.Errorf("phases took %v on the workers, more than the passes' %v", sum-p.Helped, p.Pass)
	case sum < p.Pass/10:
		t.Errorf("phases took %v of the passes' %v: no phase counts most of the work", sum, p.Pass)
	}
	for _, name := range []string{Matmuls, Attention, AddNorm, Embeddings, GraphBuilding, Copies} {
		if phases[name].Time <= 0 || phases[name].Calls < 1 {
			t.Errorf("%s: %+v", name, phases[name])
		}
	}
	if done := phases[Matmuls].FLOPs; done < p.MatmulFLOPsNeeded {
		t.Errorf("matmuls took %d FLOPs, want at least %d", done, p.MatmulFLOPsNeeded)
	}
	if done := phases[Attention].FLOPs; done < p.AttentionFLOPsNeeded {
		t.Errorf("attention took %d FLOPs, want at least %d", done, p.AttentionFLOPsNeeded)
	}
}

// The kernels compute no padding, and the activation within the GEMM.
func checkFused(t *testing.T, p Profile, phases map[string]Phase) {
	t.Helper()
	if done, needed := phases[Matmuls].FLOPs, p.MatmulFLOPsNeeded; float64(done) > 1.01*float64(needed) {
		t.Errorf("matmuls took %d FLOPs, want at most 1 %% over the %d needed", done, needed)
	}
	if phases[Activations].Calls != 0 {
		t.Errorf("the activation is counted apart from the matmuls: %+v", phases[Activations])
	}
}

// A batch of one pair is one microbatch, whose kernels two threads share.
func TestProfileOfHelpers(t *testing.T) {
	if unfusedAsked() || runtime.GOOS == "darwin" || runtime.NumCPU() < 2 {
		return // there are no helpers without kernels or a second processor
	}
	s := openSession(t, panelConfig, Options{Device: CPU, Threads: 2})
	b := Batch{IDs: make([]int32, 64), TypeIDs: make([]int32, 64), Lengths: []int32{64}, Microbatches: []int32{1}}
	if err := s.StartProfile(); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		score(t, s, b)
	}
	p, phases := readProfile(t, s)
	if p.Helped <= 0 || p.Helped > time.Duration(p.Workers)*p.Busy {
		t.Errorf("helped for %v of %v", p.Helped, p.Busy)
	}
	if done, needed := phases[Matmuls].FLOPs, p.MatmulFLOPsNeeded; done < needed || float64(done) > 1.02*float64(needed) {
		t.Errorf("matmuls took %d FLOPs, want at least %d", done, needed)
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
		t.Error("a closed session started a profile")
	}
	if _, err := s.Profile(); err == nil {
		t.Error("a closed session has a profile")
	}
}
