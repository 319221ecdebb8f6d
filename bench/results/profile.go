package results

// A Profile is where the threads' time of a run went. It is of an engine that
// was asked for it, and of a CPU.
type Profile struct {
	Lanes        int     `json:"lanes"`         // threads that compute shards
	BusyMS       float64 `json:"busy_ms"`       // at least one shard was at work
	PassMS       float64 `json:"pass_ms"`       // of all shards
	HelpedMS     float64 `json:"helped_ms"`     // by threads that help a lane, a part of the phases' time
	TokenizingMS float64 `json:"tokenizing_ms"` // of all tokenizer workers

	Pairs   int64   `json:"pairs"`
	Phases  []Phase `json:"phases"`
	Product Work    `json:"products"`
	Attend  Work    `json:"attention"`
}

// PlainGraph is what Engine.Kernels is where MLX's own operations ran.
const PlainGraph = "MLX"

// A Phase is one class of work of the native pass, summed over its threads.
type Phase struct {
	Name  string  `json:"name"`
	MS    float64 `json:"ms"`
	Calls int64   `json:"calls"`
	FLOPs int64   `json:"flops"` // executed; 0 where they are not counted
}

// Work is FLOPs executed, padding included, and those that the real tokens need.
type Work struct {
	FLOPs  int64 `json:"flops"`
	Needed int64 `json:"flops_needed"`
}

// Rows are the phases and what is beside them: tokenising, what a pass does
// between phases, and the time that lanes waited while others were at work. They
// add up to the whole: lanes x busy time, and tokenising. (Where two small
// batches are at work at once, each may have helpers: then more threads than
// lanes are, and no lane is said to have waited.)
func (p *Profile) Rows() []Phase {
	var sum float64
	for _, phase := range p.Phases {
		sum += phase.MS
	}
	return append(append([]Phase(nil), p.Phases...),
		Phase{Name: "rest of the pass", MS: max(0, p.PassMS+p.HelpedMS-sum)},
		Phase{Name: "tokenising", MS: p.TokenizingMS},
		Phase{Name: "waiting", MS: max(0, float64(p.Lanes)*p.BusyMS-p.PassMS-p.HelpedMS)},
	)
}
