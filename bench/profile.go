package bench

import (
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/internal/telemetry"
	"github.com/mlxrank/mlxrank/mlx"
)

// A reading holds the counters of a profile at one time.
type reading struct {
	stats   telemetry.Snapshot
	profile lab.Profile
}

func (t *engineTarget) reading() (r reading, err error) {
	r.stats = telemetry.Snapshot(t.engine.Stats())
	if t.profiled {
		r.profile, err = t.engine.Profile(lab.Key{})
	}
	return r, err
}

// profile returns the difference of two readings. It returns nil if no profile was
// requested, or if the engine reopened its session in between: the figures of a new
// session begin at zero.
func (t *engineTarget) profile(before, after reading) *results.Profile {
	if !t.profiled {
		return nil
	}
	if after.stats.Reopened != before.stats.Reopened {
		t.log.Warn().Msg("this run has no profile: the engine reopened its session")
		return nil
	}
	a, b := after.profile, before.profile
	p := &results.Profile{
		Workers: a.Workers, Pairs: a.Pairs - b.Pairs,
		BusyMS: telemetry.Milliseconds(a.Busy - b.Busy), PassMS: telemetry.Milliseconds(a.Pass - b.Pass), HelpedMS: telemetry.Milliseconds(a.Helped - b.Helped),
		TokenizingMS: telemetry.Milliseconds(after.stats.Tokenizing - before.stats.Tokenizing),
		Matmul:       results.Work{Needed: a.MatmulFLOPsNeeded - b.MatmulFLOPsNeeded},
		Attend:       results.Work{Needed: a.AttentionFLOPsNeeded - b.AttentionFLOPsNeeded},
	}
	fused := t.facts.Kernels != results.UnfusedGraph
	for i, phase := range a.Phases {
		flops := phase.FLOPs - b.Phases[i].FLOPs
		name := phase.Name
		switch {
		case name == mlx.Matmuls:
			p.Matmul.FLOPs = flops
			if fused {
				name = "matmul with bias and activation"
			}
		case name == mlx.Attention:
			p.Attend.FLOPs = flops
		case name == mlx.Activations && fused:
			continue // part of matmul
		}
		p.Phases = append(p.Phases, results.Phase{
			Name: name, MS: telemetry.Milliseconds(phase.Time - b.Phases[i].Time), Calls: phase.Calls - b.Phases[i].Calls, FLOPs: flops,
		})
	}
	return p
}
