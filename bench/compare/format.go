package compare

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// Text formats the comparison as a table.
func (c *Comparison) Text() string {
	var b strings.Builder
	how := "one after the other, resampled by run"
	if c.Interleaved {
		how = "in alternating rounds, resampled by round"
	}
	fmt.Fprintf(&b, "A  %s\nB  %s\nmeasured %s; ratio B/A with its 95 %% confidence interval\n", c.A, c.B, how)
	for _, p := range c.Points {
		label := p.A
		if p.B != p.A {
			label += "  |  " + p.B
		}
		fmt.Fprintf(&b, "\n%s (%d and %d runs)\n", label, p.RunsA, p.RunsB)
		table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		lines := []string{"figure\tA\tB\tratio\tinterval\tverdict\t"}
		for _, f := range p.Figures {
			lines = append(lines, fmt.Sprintf("%s\t%.1f\t%.1f\t%.3f\t%s\t%s\t", f.Name, f.A, f.B, f.Ratio, f.interval(), f.verdict()))
		}
		if _, err := fmt.Fprintln(table, strings.Join(lines, "\n")); err != nil {
			return err.Error() // a Builder never fails
		}
		if err := table.Flush(); err != nil {
			return err.Error()
		}
	}
	return b.String()
}

func (f Figure) interval() string {
	if f.Low == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f to %.3f", *f.Low, *f.High)
}

// verdict interprets the interval. An interval that includes 1 shows no difference.
func (f Figure) verdict() string {
	switch {
	case f.Low == nil:
		return "-"
	case *f.Low <= 1 && *f.High >= 1:
		return "no difference shown"
	case (f.Ratio > 1) == (f.Better == "higher"):
		return "B is better"
	}
	return "B is worse"
}

// Benchmarks formats results as Go's benchmarks do, one line per run, for
// benchstat.
func Benchmarks(r *results.Result) string {
	var b strings.Builder
	b.WriteString("Unit pairs/s better=higher\nUnit p50-ms better=lower\nUnit p95-ms better=lower\n")
	e := r.Environment
	for _, line := range [][2]string{{"goos", goos(e.OS)}, {"cpu", e.Chip}, {"experiment", r.Name}} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", line[0], line[1])
		}
	}
	for i := range r.Points {
		p := &r.Points[i]
		if p.Error != "" {
			continue
		}
		for k := range p.Runs {
			run := &p.Runs[k]
			s := telemetry.Summarize(run.Latencies())
			fmt.Fprintf(&b, "Benchmark%s %d %.0f ns/op %.4f pairs/s %.4f p50-ms %.4f p95-ms\n",
				benchmarkName(p.Settings.Label(r.Swept)), len(run.Requests), s.Mean*1e6, run.Throughput(), s.P50, s.P95)
		}
	}
	return b.String()
}

// goos returns Go's name of the OS, the end of an environment's OS.
func goos(os string) string {
	name, _, _ := strings.Cut(os[strings.LastIndex(os, " ")+1:], "/")
	return name
}

// benchmarkName turns a label into "Score/batch=32/concurrency=1". A name must not
// contain spaces. benchstat would read a dash and digits at its end as GOMAXPROCS.
func benchmarkName(label string) string {
	name := "Score/" + strings.ReplaceAll(label, ", ", "/")
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '-' {
			return '_'
		}
		return r
	}, name)
}
