package results

import (
	"cmp"
	"encoding/json"
)

// A Profile records where the threads' time of a run went. Only engines that are
// opened with a profile have one, and only on a CPU.
type Profile struct {
	Workers      int     `json:"workers"`       // CPU threads that compute microbatches
	BusyMS       float64 `json:"busy_ms"`       // at least one microbatch was computed
	PassMS       float64 `json:"pass_ms"`       // of all microbatches
	HelpedMS     float64 `json:"helped_ms"`     // by threads that help a worker, part of the phases' time
	TokenizingMS float64 `json:"tokenizing_ms"` // of all tokenizer workers

	Pairs  int64   `json:"pairs"`
	Phases []Phase `json:"phases"`
	Matmul Work    `json:"matmul"`
	Attend Work    `json:"attention"`
}

// UnfusedGraph is the value of Engine.Kernels if MLX's own operations computed.
const UnfusedGraph = "MLX"

// A Phase is one class of work of the native pass, summed over all threads.
type Phase struct {
	Name  string  `json:"name"`
	MS    float64 `json:"ms"`
	Calls int64   `json:"calls"`
	FLOPs int64   `json:"flops"` // executed; 0 if they are not counted
}

// Work compares the FLOPs executed, padding included, with those that the tokens need.
type Work struct {
	FLOPs  int64 `json:"flops"`
	Needed int64 `json:"flops_needed"`
}

// Rows lists the phases and the rest: tokenising, what a pass does between
// phases, and the time that workers waited while others computed. The rows add
// up to workers x busy time plus tokenising. (Two small batches at once may each
// have helpers. Then more threads than workers compute, and the time waited is 0.)
func (p *Profile) Rows() []Phase {
	var sum float64
	for _, phase := range p.Phases {
		sum += phase.MS
	}
	return append(append([]Phase(nil), p.Phases...),
		Phase{Name: "rest of the pass", MS: max(0, p.PassMS+p.HelpedMS-sum)},
		Phase{Name: "tokenising", MS: p.TokenizingMS},
		Phase{Name: "waiting", MS: max(0, float64(p.Workers)*p.BusyMS-p.PassMS-p.HelpedMS)},
	)
}

// UnmarshalJSON also reads the names of version 0.1: lanes and products.
func (p *Profile) UnmarshalJSON(data []byte) error {
	type profile Profile
	old := struct {
		Lanes    int  `json:"lanes"`
		Products Work `json:"products"`
		*profile
	}{profile: (*profile)(p)}
	err := json.Unmarshal(data, &old)
	p.Workers, p.Matmul = cmp.Or(p.Workers, old.Lanes), cmp.Or(p.Matmul, old.Products)
	return err
}
