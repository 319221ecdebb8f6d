package eval

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// A precisionCost compares a number format with float32 of the same model.
type precisionCost struct {
	Name           string       `json:"name"`
	Reference      string       `json:"reference"`
	Measures       []comparison `json:"measures"`
	Tau            float64      `json:"kendall_tau"`      // mean over queries
	Largest        float64      `json:"largest_logit"`    // difference of logits
	Mean           float64      `json:"mean_logit"`       // difference of logits, absolute
	LargestInSD    float64      `json:"largest_logit_sd"` // Largest, in standard deviations of the reference's logits
	Top            int          `json:"top"`
	ChangedTop     int          `json:"queries_changed_top"` // queries whose first Top documents are others or in another order
	Speed          float64      `json:"pairs_s"`
	ReferenceSpeed float64      `json:"reference_pairs_s"`
}

// topDepth is how many first documents ChangedTop compares.
const topDepth = 10

// comparePrecisions compares each number format with float32 of the same model and
// maximum length.
func (e *evaluation) comparePrecisions() error {
	for _, config := range e.report.Configurations {
		i := slices.IndexFunc(e.report.Configurations, func(r *configuration) bool {
			return r.DType == string(engine.Float32) && r.Model == config.Model && r.MaxLength == config.MaxLength
		})
		if config.scored == nil || config.DType == string(engine.Float32) || i < 0 {
			continue
		}
		cost, err := e.precisionCost(config, e.report.Configurations[i])
		if err != nil {
			return err
		}
		e.report.Precision = append(e.report.Precision, cost)
	}
	return nil
}

func (e *evaluation) precisionCost(config, reference *configuration) (precisionCost, error) {
	cost := precisionCost{Name: config.Name, Reference: reference.Name, Top: topDepth, Tau: 1, Speed: config.speed(), ReferenceSpeed: reference.speed()}
	var err error
	if cost.Measures, err = e.compareAll(reference.after, config.after); err != nil {
		return cost, err
	}
	var exact, differences, taus []float64
	for q, logits := range config.scored.logits {
		a, b := floats(reference.scored.logits[q]), floats(logits)
		for i := range a {
			exact, differences = append(exact, a[i]), append(differences, math.Abs(a[i]-b[i]))
		}
		if tau, ok := measures.KendallTau(a, b); ok {
			taus = append(taus, tau)
		}
		if !slices.Equal(e.top(q, reference.scored.logits[q]), e.top(q, logits)) {
			cost.ChangedTop++
		}
	}
	if len(taus) > 0 {
		cost.Tau = stat.Mean(taus, nil)
	}
	cost.Mean, cost.Largest = stat.Mean(differences, nil), slices.Max(differences)
	if deviation := stat.PopStdDev(exact, nil); deviation > 0 {
		cost.LargestInSD = cost.Largest / deviation
	}
	return cost, nil
}

func floats(list []float32) []float64 {
	wide := make([]float64, len(list))
	for i, x := range list {
		wide[i] = float64(x)
	}
	return wide
}

// top returns the ids of a query's first documents by their logits.
func (e *evaluation) top(q int, logits []float32) []string {
	list := make([]measures.Retrieved, len(logits))
	for i, logit := range logits {
		list[i] = measures.Retrieved{ID: e.candidates[q][i].ID, Score: float64(logit)}
	}
	var ids []string
	for _, d := range measures.Rank(list)[:min(topDepth, len(list))] {
		ids = append(ids, d.ID)
	}
	return ids
}

// precisionSections formats the cost of number formats for people.
func (e *evaluation) precisionSections() []section {
	var list []section
	for _, cost := range e.report.Precision {
		s := section{title: "cost of precision: " + cost.Name + ", compared with " + cost.Reference}
		s.header = []string{"measure", "reference", "value", "difference", "95 % interval", "p", "won", "lost", "same"}
		for _, m := range cost.Measures {
			s.rows = append(s.rows, m.cells()[:len(s.header)])
		}
		s.notes = []string{
			fmt.Sprintf("logits differ by %.2g on average and by at most %.2g, %.2g standard deviations", cost.Mean, cost.Largest, cost.LargestInSD),
			fmt.Sprintf("Kendall's tau of the rankings %.4f; the first %d documents differ for %s", cost.Tau, cost.Top, output.Count(cost.ChangedTop, "query", "queries")),
			fmt.Sprintf("%.1f pairs/s, against %.1f pairs/s", cost.Speed, cost.ReferenceSpeed),
		}
		list = append(list, s)
	}
	return list
}
