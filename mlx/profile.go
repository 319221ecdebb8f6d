package mlx

import "time"

// A Profile says where a session's time went, summed over its threads.
type Profile struct {
	Workers       int
	Pairs, Tokens int64
	Busy          time.Duration // at least one shard was at work
	Pass          time.Duration // of all shards, from taken to logits read
	Helped        time.Duration // by threads that are no lane's, a part of the phases' time
	Phases        []Phase

	MatmulFLOPsNeeded    int64 // by the real tokens
	AttentionFLOPsNeeded int64
}

// A Phase is one class of work.
type Phase struct {
	Name  string
	Time  time.Duration
	Calls int64
	FLOPs int64 // executed, padding included; counted of products and attention alone
}

// Names of phases. Our own kernels add bias and activation to a product's
// results while they are in registers, so that there they are of its time.
const (
	Matmuls       = "matmul"
	Attention     = "attention"
	Activations   = "activation"
	AddNorm       = "add + LayerNorm"
	Embeddings    = "embeddings"
	GraphBuilding = "graph building"
	Copies        = "copies"
)

// phaseNames are in the order of mlxrank.h.
var phaseNames = [7]string{Matmuls, Attention, Activations, AddNorm, Embeddings, GraphBuilding, Copies}

// StartProfile begins figures at zero, of what is computed from now on. There
// are none of a GPU.
func (s *Session) StartProfile() error { return s.setProfile(1) }

// StopProfile ends them.
func (s *Session) StopProfile() error { return s.setProfile(0) }

func (s *Session) setProfile(on int32) error {
	return callHere("session_profile", func(err *byte, errLen int32) int32 {
		return s.library.native.profile(s.handle.Load(), on, err, errLen)
	})
}

// Profile reads the figures; all are zero unless StartProfile was called.
func (s *Session) Profile() (Profile, error) {
	c := cProfile{size: sizeOf[cProfile]()}
	err := callHere("session_profile_read", func(err *byte, errLen int32) int32 {
		return s.library.native.profileRead(s.handle.Load(), &c, err, errLen)
	})
	if err != nil {
		return Profile{}, err
	}
	p := Profile{
		Workers: int(c.lanes), Pairs: c.pairs, Tokens: c.tokens,
		Busy: time.Duration(c.busyNs), Pass: time.Duration(c.passNs), Helped: time.Duration(c.helpedNs),
		MatmulFLOPsNeeded: c.productFlopsNeeded, AttentionFLOPsNeeded: c.attentionFlopsNeeded,
	}
	for i, name := range phaseNames {
		p.Phases = append(p.Phases, Phase{name, time.Duration(c.ns[i]), c.calls[i], c.flops[i]})
	}
	return p, nil
}
