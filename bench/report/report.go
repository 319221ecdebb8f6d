// Package report formats a benchmark's results in Markdown. Headings, tables and
// decimals follow the report that founded this project; additions have lines
// and sections of their own. "-" stands for what was not measured.
package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A Plot is an image in the report.
type Plot struct{ Title, PNG, SVG string } // paths from the report's folder

// Markdown returns the report.
func Markdown(r *results.Result, plots []Plot) []byte {
	d := &document{result: r}
	d.header()
	d.summary()
	d.details()
	d.overall()
	d.dashboard()
	d.timeSeries()
	d.stages()
	d.clientAndServer()
	d.profile()
	d.workers()
	d.busy()
	d.repeatability()
	d.environment()
	d.plots(plots)
	return []byte(strings.TrimRight(d.text.String(), "\n") + "\n")
}

// Summary returns the Results Summary of the report.
func Summary(r *results.Result) string {
	d := &document{result: r}
	d.summary()
	return strings.TrimSuffix(d.text.String(), "\n")
}

// A document is an unfinished report.
type document struct {
	text   strings.Builder
	result *results.Result
}

func (d *document) line(format string, args ...any) { fmt.Fprintf(&d.text, format+"\n", args...) }

// paragraph adds a line and an empty line.
func (d *document) paragraph(format string, args ...any) { d.line(format+"\n", args...) }

func (d *document) table(t *telemetry.Table) { d.line("%s", t) }

// with adds a unit to a number unless it is "-".
func with(number, unit string) string {
	if number == "-" {
		return number
	}
	return number + unit
}

func (d *document) header() {
	r := d.result
	name := r.Name
	if r.Finished == nil {
		name += " (PARTIAL)"
	}
	d.paragraph("# %s", name)
	if r.Description != "" {
		d.paragraph("_%s_", r.Description)
	}
	d.verdict()
	end := r.Started
	if r.Finished != nil {
		end = *r.Finished
	}
	d.paragraph("**Timestamp:** %s", end.Local().Format("2006-01-02 15:04:05"))
	if s := r.Environment.Server; s != nil {
		d.serverHeader(s)
		return
	}
	d.paragraph("**Model:** `%s`", d.each(func(p results.Point) string { return p.Settings.Model }))
	d.paragraph("**Backend:** `mlx` | **Device:** `%s`", d.each(device))
	d.paragraph("**Dynamic Batching:** enabled (max_batch=%s, timeout=%s)", d.each(maxBatch), d.each(timeout))
	d.paragraph("**Policy:** %s | **Length-Aware:** %s | **Mode:** %s | **Load:** %s",
		d.each(policy),
		d.each(lengthAware),
		d.each(func(p results.Point) string { return p.Settings.Mode }),
		d.each(load))
}

// each lists the different values of the points.
func (d *document) each(of func(results.Point) string) string {
	var seen []string
	for _, p := range d.result.Points {
		if s := of(p); !slices.Contains(seen, s) {
			seen = append(seen, s)
		}
	}
	if len(seen) == 0 {
		return "-"
	}
	return strings.Join(seen, ", ")
}

func device(p results.Point) string {
	if p.Engine == nil {
		return orDash(p.Settings.Device)
	}
	return p.Engine.Device
}

func maxBatch(p results.Point) string {
	switch {
	case p.Engine != nil && p.Engine.MaxBatch > 0:
		return fmt.Sprint(p.Engine.MaxBatch)
	case p.Settings.MaxBatch > 0:
		return fmt.Sprint(p.Settings.MaxBatch)
	}
	return "-"
}

// lengthAware marks a setting without effect.
func lengthAware(p results.Point) string {
	text := map[bool]string{true: "on", false: "off"}[p.Settings.LengthAware]
	if p.Engine != nil && p.Engine.Packed {
		text += " (no effect: tokens are computed without padding)"
	}
	return text
}

func policy(p results.Point) string {
	if p.Settings.BatchTimeoutMS > 0 {
		return "batch timeout"
	}
	return "continuous"
}

func timeout(p results.Point) string {
	if p.Settings.BatchTimeoutMS == 0 {
		return "-"
	}
	return fmt.Sprintf("%vms", p.Settings.BatchTimeoutMS)
}

// load describes how requests were sent.
func load(p results.Point) string {
	s := p.Settings
	end := fmt.Sprintf("%d requests", s.Requests)
	if s.Duration > 0 {
		end = s.Duration.String()
	}
	if s.Open() {
		return fmt.Sprintf("%v requests/s at random times, %s", s.Rate, end)
	}
	return "closed loop, " + end
}

// others lists the swept settings without a column in the summary.
func (d *document) others() []string {
	return slices.DeleteFunc(slices.Clone(d.result.Swept), func(key string) bool {
		return key == "batch" || key == "concurrency"
	})
}

// config names a point in the style of the tables.
func (d *document) config(s experiment.Settings) string {
	label := fmt.Sprintf("batch=%d, conc=%d", s.Batch, s.Concurrency)
	if s.Open() {
		label = fmt.Sprintf("batch=%d, rate=%v", s.Batch, s.Rate)
	}
	for _, key := range d.others() {
		if key != "rate" {
			label += ", " + key + "=" + s.Value(key)
		}
	}
	return label
}

func concurrency(s experiment.Settings) string {
	if s.Open() {
		return "-"
	}
	return fmt.Sprint(s.Concurrency)
}

func (d *document) heading(i int) string {
	return fmt.Sprintf("### Config %d: %s", i+1, d.result.Points[i].Settings.Label(d.result.Swept))
}

// perConfig writes a section for each point with a run, under a heading each if
// there are several points.
func (d *document) perConfig(write func(p *results.Point, run *results.Run)) {
	nothing := true
	for i := range d.result.Points {
		p := &d.result.Points[i]
		run := p.Typical()
		if p.Error != "" || run == nil {
			continue
		}
		if len(d.result.Points) > 1 {
			d.paragraph("%s", d.heading(i))
		}
		write(p, run)
		nothing = false
	}
	if nothing {
		d.paragraph("-")
	}
}

func (d *document) plots(plots []Plot) {
	if len(plots) == 0 {
		return
	}
	d.paragraph("## Plots")
	for _, p := range plots {
		d.paragraph("![%s](%s)", p.Title, p.PNG)
		d.paragraph("%s, [as SVG](%s)", p.Title, p.SVG)
	}
}
