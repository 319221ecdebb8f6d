// Package compare computes by how much the results of two benchmarks differ, with
// confidence intervals.
package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/stats"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A Comparison compares results A with results B.
type Comparison struct {
	A           string   `json:"a"` // names
	B           string   `json:"b"`
	Interleaved bool     `json:"interleaved"` // measured in alternating rounds
	Warnings    []string `json:"warnings"`
	Points      []Point  `json:"points"`
}

// A Point compares one point of A with its counterpart of B.
type Point struct {
	A       string   `json:"a"` // labels
	B       string   `json:"b"`
	RunsA   int      `json:"runs_a"`
	RunsB   int      `json:"runs_b"`
	Figures []Figure `json:"figures"`
}

// A Figure holds the means of a figure over the runs of A and of B, and the ratio
// B/A with its 95 % confidence interval. The interval is null for too few runs.
type Figure struct {
	Name   string   `json:"name"`
	Unit   string   `json:"unit"`
	A      float64  `json:"a"`
	B      float64  `json:"b"`
	Ratio  float64  `json:"ratio"`
	Low    *float64 `json:"low"`
	High   *float64 `json:"high"`
	Better string   `json:"better"` // "higher" or "lower"
}

// measures lists the compared figures, throughput first.
var measures = []struct {
	name, unit, better string
	of                 func(*results.Run) float64
}{
	{"throughput_pairs_s", "pairs/s", "higher", (*results.Run).Throughput},
	{"latency_ms mean", "ms", "lower", func(r *results.Run) float64 { return telemetry.Summarize(r.Latencies()).Mean }},
	{"latency_ms P50", "ms", "lower", func(r *results.Run) float64 { return telemetry.Percentile(r.Latencies(), 50) }},
	{"latency_ms P95", "ms", "lower", func(r *results.Run) float64 { return telemetry.Percentile(r.Latencies(), 95) }},
}

// Results compares two results. In interleaved results, run i of A and run i of B
// are the same round.
func Results(a, b *results.Result, interleaved bool) (*Comparison, error) {
	pairs, err := match(a, b)
	if err != nil {
		return nil, err
	}
	c := &Comparison{A: a.Name, B: b.Name, Interleaved: interleaved, Warnings: warnings(a, b, interleaved)}
	c.warnOfUnmatched(a, b, pairs)
	c.warnOfUnmatched(b, a, pairs)
	for _, pair := range pairs {
		p := Point{A: pair[0].Settings.Label(a.Swept), B: pair[1].Settings.Label(b.Swept), RunsA: len(pair[0].Runs), RunsB: len(pair[1].Runs)}
		if min(p.RunsA, p.RunsB) < 2 {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s: %d and %d runs; a confidence interval needs at least two of each", p.A, p.RunsA, p.RunsB))
		}
		for _, m := range measures {
			p.Figures = append(p.Figures, figure(m.name, m.unit, m.better, each(pair[0], m.of), each(pair[1], m.of), interleaved))
		}
		c.Points = append(c.Points, p)
	}
	return c, nil
}

func each(p *results.Point, of func(*results.Run) float64) []float64 {
	values := make([]float64, len(p.Runs))
	for i := range p.Runs {
		values[i] = of(&p.Runs[i])
	}
	return values
}

func figure(name, unit, better string, a, b []float64, interleaved bool) Figure {
	f := Figure{Name: name, Unit: unit, Better: better, A: telemetry.Summarize(a).Mean, B: telemetry.Summarize(b).Mean}
	f.Ratio = f.B / f.A
	interval := stats.RatioInterval(a, b)
	if interleaved {
		interval = stats.PairedRatioInterval(a, b)
	}
	if !math.IsNaN(interval.Low) {
		f.Low, f.High = &interval.Low, &interval.High
	}
	return f
}

// match finds the counterpart of each point: the only one, or the one with the
// same swept values.
func match(a, b *results.Result) ([][2]*results.Point, error) {
	ofA, ofB := measured(a), measured(b)
	if len(ofA) == 0 || len(ofB) == 0 {
		return nil, fmt.Errorf("nothing to compare: %s has %d measured points, %s has %d", a.Name, len(ofA), b.Name, len(ofB))
	}
	if len(ofA) == 1 && len(ofB) == 1 {
		return [][2]*results.Point{{ofA[0], ofB[0]}}, nil
	}
	byLabel := map[string]*results.Point{}
	for _, p := range ofB {
		byLabel[p.Settings.Label(b.Swept)] = p
	}
	var pairs [][2]*results.Point
	for _, p := range ofA {
		if other := byLabel[p.Settings.Label(a.Swept)]; other != nil {
			pairs = append(pairs, [2]*results.Point{p, other})
		}
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("no point of %s has the same batch, concurrency and swept settings as a point of %s", a.Name, b.Name)
	}
	return pairs, nil
}

// warnOfUnmatched warns of points of a result without a counterpart.
func (c *Comparison) warnOfUnmatched(r, other *results.Result, pairs [][2]*results.Point) {
	for _, p := range measured(r) {
		if !slices.ContainsFunc(pairs, func(pair [2]*results.Point) bool { return pair[0] == p || pair[1] == p }) {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s: %s is left out: %s has no measured point like it", r.Name, p.Settings.Label(r.Swept), other.Name))
		}
	}
}

func measured(r *results.Result) []*results.Point {
	var points []*results.Point
	for i := range r.Points {
		if p := &r.Points[i]; p.Error == "" && len(p.Runs) > 0 {
			points = append(points, p)
		}
	}
	return points
}

// warnings lists reasons not to trust the comparison.
func warnings(a, b *results.Result, interleaved bool) []string {
	var list []string
	if !interleaved {
		list = append(list, "not interleaved, so noise on the machine may cause the difference; measure in alternating rounds: mlxrank bench compare --run a.yaml b.yaml")
	}
	for _, fact := range []struct{ name, a, b string }{
		{"target", a.Environment.Server.String(), b.Environment.Server.String()},
		{"chip", a.Environment.Chip, b.Environment.Chip},
		{"power source", a.Environment.Power, b.Environment.Power},
		{"mlxrank version", a.Environment.Program, b.Environment.Program},
		{"workload", workload(a), workload(b)},
		{"model", model(a), model(b)},
	} {
		if fact.a != fact.b {
			list = append(list, fmt.Sprintf("different %s: %q and %q", fact.name, fact.a, fact.b))
		}
	}
	for _, r := range []*results.Result{a, b} {
		if r.Finished == nil {
			list = append(list, fmt.Sprintf("%s was interrupted", r.Name))
		}
		for _, p := range r.Points {
			if p.Error != "" {
				list = append(list, fmt.Sprintf("%s: %s failed: %s", r.Name, p.Settings.Label(r.Swept), p.Error))
			}
		}
	}
	return list
}

func workload(r *results.Result) string {
	for _, p := range r.Points {
		if p.Engine != nil {
			return fmt.Sprintf("%s %.12s", p.Engine.Workload, p.Engine.WorkloadSHA256)
		}
	}
	return ""
}

func model(r *results.Result) string {
	if s := r.Environment.Server; s != nil {
		return cmp.Or(s.Info["model_id"], s.Model)
	}
	for _, p := range r.Points {
		if p.Engine != nil {
			return fmt.Sprintf("%s %.12s", p.Settings.Model, p.Engine.ModelSHA256)
		}
	}
	return ""
}

// Slower describes the first point where B's throughput is lower than A's by more
// than limit, a share. It returns "" if there is none. A confidence interval that
// includes 1 may be noise, so it does not count.
func (c *Comparison) Slower(limit float64) string {
	for _, p := range c.Points {
		f := p.Figures[0]
		if f.Ratio < 1-limit && (f.High == nil || *f.High < 1) {
			return fmt.Sprintf("%s: throughput of %s is %.1f %% below that of %s, more than %.1f %%", p.B, c.B, 100*(1-f.Ratio), c.A, 100*limit)
		}
	}
	return ""
}
