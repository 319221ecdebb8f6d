package engine

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// Profile may be called while requests run.
func TestProfile(t *testing.T) {
	e, err := Open(context.Background(), Config{Model: weights.Builtin, Device: "cpu", Lab: &lab.Options{Profile: true}, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	pairs := []Pair{{"a file manager", "moves and copies files"}, {"a file manager", "plays chess"}}
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for range 5 {
				if _, err := e.Score(context.Background(), pairs); err != nil {
					t.Error(err)
				}
				if _, err := e.Profile(lab.Key{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	requests.Wait()
	p, err := e.Profile(lab.Key{})
	if err != nil {
		t.Fatal(err)
	}
	stats := e.Stats()
	if p.Pairs < stats.Pairs || stats.Pairs != 40 || stats.Tokenizing <= 0 || p.Busy <= 0 {
		t.Errorf("%d pairs profiled of %d, tokenizing took %v, the session was busy for %v", p.Pairs, stats.Pairs, stats.Tokenizing, p.Busy)
	}
	if matmuls := p.Phases[0]; matmuls.Name != mlx.Matmuls || matmuls.FLOPs < p.MatmulFLOPsNeeded || float64(matmuls.FLOPs) > 1.2*float64(p.MatmulFLOPsNeeded) {
		t.Errorf("matmuls %+v, want at least %d FLOPs and at most 20 %% more", matmuls, p.MatmulFLOPsNeeded)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := e.Profile(lab.Key{}); err == nil {
		t.Error("Profile of a closed engine returned no error")
	}
}

func TestNoProfileUnasked(t *testing.T) {
	if _, err := builtin(t).Profile(lab.Key{}); err == nil || !strings.Contains(err.Error(), "without a profile") {
		t.Errorf("%v", err)
	}
}
