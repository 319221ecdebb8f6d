package mlx

import "time"

// Profile records where a session's time went, summed over its threads.
type Profile struct {
	Workers       int
	Pairs, Tokens int64
	Busy          time.Duration // while a worker computed a microbatch
	Pass          time.Duration // sum over microbatches, from taken to logits read
	Helped        time.Duration // by threads that are not workers, a part of Phases
	Phases        []Phase

	MatmulFLOPsNeeded    int64 // by the tokens without padding
	AttentionFLOPsNeeded int64
}

// Phase holds the figures of one class of work.
type Phase struct {
	Name  string
	Time  time.Duration
	Calls int64
	FLOPs int64 // executed, with padding; 0 except for Matmuls and Attention
}

// Names of phases. On the fused graph, Matmuls includes bias and activation, which
// the kernels add to the results in registers.
const (
	Matmuls       = "matmul"
	Attention     = "attention"
	Activations   = "activation"
	AddNorm       = "add + LayerNorm"
	Embeddings    = "embeddings"
	GraphBuilding = "graph building"
	Copies        = "copies"
)

// phaseNames has the order of mlxrank.h.
var phaseNames = [7]string{Matmuls, Attention, Activations, AddNorm, Embeddings, GraphBuilding, Copies}

// StartProfile sets the figures to zero and records every microbatch that a worker
// takes from now on. A session on a GPU returns ErrInvalid.
func (s *Session) StartProfile() error {
	return callHere("session_profile", func(err *byte, errLen int32) int32 {
		return s.library.native.profile(s.handle.Load(), 1, err, errLen)
	})
}

// Profile returns the figures, all zero before StartProfile.
func (s *Session) Profile() (Profile, error) {
	c := cProfile{size: sizeOf[cProfile]()}
	err := callHere("session_profile_read", func(err *byte, errLen int32) int32 {
		return s.library.native.profileRead(s.handle.Load(), &c, err, errLen)
	})
	if err != nil {
		return Profile{}, err
	}
	p := Profile{
		Workers: int(c.workers), Pairs: c.pairs, Tokens: c.tokens,
		Busy: time.Duration(c.busyNs), Pass: time.Duration(c.passNs), Helped: time.Duration(c.helpedNs),
		MatmulFLOPsNeeded: c.matmulFlopsNeeded, AttentionFLOPsNeeded: c.attentionFlopsNeeded,
	}
	for i, name := range phaseNames {
		p.Phases = append(p.Phases, Phase{name, time.Duration(c.ns[i]), c.calls[i], c.flops[i]})
	}
	return p, nil
}
