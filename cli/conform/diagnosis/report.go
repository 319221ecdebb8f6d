package diagnosis

import (
	"cmp"
	"math"
	"slices"
)

// Verdicts of a report.
const (
	Right     = "right"
	Wrong     = "wrong"
	Undecided = "undecided"
)

// A Report says how right a server's scores are.
type Report struct {
	URL     string `json:"url"`
	API     string `json:"api"`
	Path    string `json:"path"`
	Version string `json:"server_version,omitempty"`
	Asked   string `json:"requested_model,omitempty"` // name of the model in requests

	Model     string `json:"model"`
	MaxLength int    `json:"max_length"`

	Verdict string   `json:"verdict"` // Right, Wrong or Undecided
	Reason  string   `json:"reason,omitempty"`
	Faults  []Fault  `json:"faults"`
	Form    string   `json:"scores,omitempty"`
	Notes   []string `json:"notes,omitempty"`

	Compared int `json:"compared"`
	Refused  int `json:"refused"`
	// The largest differences after the faults are allowed for.
	MaxScore float64 `json:"max_score_difference"`
	MaxLogit float64 `json:"max_logit_difference"`
	MaxShare float64 `json:"max_share_of_deviation"` // of the logits' standard deviation

	Pairs []PairReport `json:"pairs"`
}

// Accept marks faults as accepted. If no other fault is left, the server is right.
func (r *Report) Accept(names []string) {
	others := 0
	for i := range r.Faults {
		r.Faults[i].Accepted = slices.Contains(names, r.Faults[i].Name)
		if !r.Faults[i].Accepted {
			others++
		}
	}
	if r.Verdict == Wrong && others == 0 {
		r.Verdict = Right
	}
}

// A PairReport compares the answers for a pair.
type PairReport struct {
	Kind     string   `json:"kind"`
	Query    string   `json:"query"`
	Document string   `json:"document"`
	Right    *float64 `json:"right"`
	Answered *float64 `json:"answered"`
	// Explained is what a server with the faults answers.
	Explained *float64 `json:"explained"`
	Refused   string   `json:"refused,omitempty"`
	// Unexplained reports that the faults do not explain the answer.
	Unexplained bool `json:"unexplained,omitempty"`

	share float64
}

// A KindReport sums up the pairs of a kind.
type KindReport struct {
	Kind        string
	Pairs       int
	Compared    int
	FromRight   float64 // largest difference of a score from the right one
	Explained   float64 // largest difference from what the faults explain
	Unexplained int
}

// Kinds sums up the pairs by kind, in the order of the pairs.
func (r *Report) Kinds() []KindReport {
	var list []KindReport
	at := map[string]int{}
	for _, p := range r.Pairs {
		i, ok := at[p.Kind]
		if !ok {
			i = len(list)
			at[p.Kind] = i
			list = append(list, KindReport{Kind: p.Kind})
		}
		k := &list[i]
		k.Pairs++
		if p.Answered == nil {
			continue
		}
		k.Compared++
		k.FromRight = max(k.FromRight, difference(p.Right, p.Answered))
		k.Explained = max(k.Explained, difference(p.Explained, p.Answered))
		if p.Unexplained {
			k.Unexplained++
		}
	}
	return list
}

func difference(a, b *float64) float64 {
	if a == nil || b == nil {
		return 0
	}
	return math.Abs(*a - *b)
}

// Unexplained returns the pairs that the faults do not explain, the worst first.
func (r *Report) Unexplained() []PairReport {
	var list []PairReport
	for _, p := range r.Pairs {
		if p.Unexplained {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b PairReport) int { return cmp.Compare(b.share, a.share) })
	return list
}

// number returns nil for NaN, which JSON does not have.
func number(x float64) *float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return &x
}
