package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/stats"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// figures are the means over the runs of a point that the report shows. Latencies
// are in milliseconds, rates of single requests in pairs per second. The lists hold
// the values of all these runs.
type figures struct {
	latencies, rates []float64
	latency, rate    telemetry.Summary
	pairs, wallMS    float64
	throughput       float64
}

func newFigures(runs []*results.Run) figures {
	var f figures
	var latency, rate []telemetry.Summary
	for _, run := range runs {
		latencies, rates := run.Latencies(), []float64(nil)
		for _, r := range run.Requests {
			rates = append(rates, float64(r.Pairs)/(r.LatencyMS/1000))
		}
		latency, rate = append(latency, telemetry.Summarize(latencies)), append(rate, telemetry.Summarize(rates))
		f.latencies, f.rates = append(f.latencies, latencies...), append(f.rates, rates...)
		f.pairs += float64(run.Pairs()) / float64(len(runs))
		f.wallMS += run.WallMS / float64(len(runs))
		f.throughput += run.Throughput() / float64(len(runs))
	}
	f.latency, f.rate = stats.Mean(latency), stats.Mean(rate)
	return f
}

func (d *document) summary() {
	d.paragraph("## Results Summary")
	t := telemetry.Table{Header: []string{"Batch", "Conc", "Pairs", "Time(s)", "Lat Avg", "Lat P95", "Lat P99", "TP Avg", "TP P95"}}
	for _, p := range d.result.Points {
		s := p.Settings
		runs := p.Shown()
		if p.Error != "" || len(runs) == 0 {
			t.Add(fmt.Sprint(s.Batch), concurrency(s), "ERROR", "-", "-", "-", "-", "-", "-")
			continue
		}
		f := newFigures(runs)
		ms := func(x float64) string { return with(telemetry.Decimals(x, 1), "ms") }
		t.Add(fmt.Sprint(s.Batch), concurrency(s), telemetry.Decimals(f.pairs, 0), telemetry.Decimals(f.wallMS/1000, 2),
			ms(f.latency.Mean), ms(f.latency.P95), ms(f.latency.P99), telemetry.Decimals(f.throughput, 1), telemetry.Decimals(f.rate.P95, 1))
	}
	d.table(&t)
	if slices.ContainsFunc(d.result.Points, func(p results.Point) bool { return len(p.Runs) == 2 }) {
		d.paragraph("_The mean of two runs._")
	}
	if len(d.others()) == 0 {
		return
	}
	// The table above has no columns for other swept settings.
	points := telemetry.Table{Header: []string{"Config", "Settings"}}
	for i, p := range d.result.Points {
		points.Add(fmt.Sprint(i+1), p.Settings.Label(d.result.Swept))
	}
	d.table(&points)
}

func (d *document) details() {
	d.paragraph("## Detailed Metrics")
	for i := range d.result.Points {
		p := &d.result.Points[i]
		runs := p.Shown()
		if p.Error != "" || len(runs) == 0 {
			d.paragraph("### Config %d: **ERROR**", i+1)
			d.paragraph("Settings: %s", p.Settings.Label(d.result.Swept))
			d.paragraph("Error: %s", cmp.Or(p.Error, "no run was completed"))
			continue
		}
		d.paragraph("%s", d.heading(i))
		d.detail(runs)
	}
}

func (d *document) detail(runs []*results.Run) {
	f := newFigures(runs)
	d.paragraph("**Total:** %s pairs in %ss", telemetry.Decimals(f.pairs, 0), telemetry.Decimals(f.wallMS/1000, 2))
	for _, run := range runs {
		if run.Refused > 0 {
			d.paragraph("**Refused:** %d of %d requests (%s)", run.Refused, run.Failed+run.Refused+len(run.Requests), run.Refusal)
		}
		if run.Failed > 0 {
			d.paragraph("**Failed:** %d of %d requests (%s)", run.Failed, run.Failed+run.Refused+len(run.Requests), run.Failure)
		}
	}
	d.line("#### Latency (ms)")
	d.table(summaryTable(f.latency.Mean, f.latency))
	d.line("#### Throughput (pairs/s)")
	d.table(summaryTable(f.throughput, f.rate))
	d.paragraph("_Average: all pairs over wall time. The other rows: rates of single requests, pairs over latency._")
	d.bands(f)
}

// summaryTable takes the average separately, since the throughput of a run is not
// the mean of its requests' rates.
func summaryTable(average float64, s telemetry.Summary) *telemetry.Table {
	t := &telemetry.Table{Header: []string{"Metric", "Value"}}
	for _, row := range []struct {
		name  string
		value float64
	}{
		{"Average", average}, {"Min", s.Min}, {"Max", s.Max}, {"Std Dev", s.StdDev},
		{"P50", s.P50}, {"P90", s.P90}, {"P95", s.P95}, {"P99", s.P99},
	} {
		t.Add(row.name, telemetry.Decimals(row.value, 2))
	}
	return t
}

func (d *document) bands(f figures) {
	d.paragraph("#### Latency vs Throughput Analysis")
	t := telemetry.Table{Header: []string{"Latency Range", "Avg Throughput", "Min Throughput", "Max Throughput", "Count"}}
	for _, b := range stats.Bands(f.latencies, f.rates) {
		label := fmt.Sprintf("%.1f-%.1fms (%s)", b.Low, b.High, b.Name)
		switch {
		case math.IsInf(b.Low, 0):
			label = fmt.Sprintf("< %.1fms (%s)", b.High, b.Name)
		case math.IsInf(b.High, 0):
			label = fmt.Sprintf(">= %.1fms (%s)", b.Low, b.Name)
		}
		t.Add(label, telemetry.Decimals(b.Rates.Mean, 2), telemetry.Decimals(b.Rates.Min, 2), telemetry.Decimals(b.Rates.Max, 2), fmt.Sprint(b.Rates.N))
	}
	d.table(&t)
	d.paragraph("**Correlation:** %s (negative correlation expected: lower latency = higher throughput)",
		telemetry.Decimals(stats.Correlation(f.latencies, f.rates), 3))
}

// overall names the best points.
func (d *document) overall() {
	d.paragraph("## Overall Summary")
	var rates, latencies []float64
	fastest, quickest := "-", "-"
	best, least := math.NaN(), math.NaN()
	for i := range d.result.Points {
		p := &d.result.Points[i]
		runs := p.Shown()
		if p.Error != "" || len(runs) == 0 {
			continue
		}
		f := newFigures(runs)
		rate, latency := f.throughput, f.latency.Mean
		rates, latencies = append(rates, rate), append(latencies, latency)
		if !(rate <= best) {
			best, fastest = rate, d.config(p.Settings)
		}
		if !(latency >= least) {
			least, quickest = latency, d.config(p.Settings)
		}
	}
	t := telemetry.Table{Header: []string{"Metric", "Value", "Config"}}
	t.Add("Best Throughput", with(telemetry.Decimals(best, 2), " p/s"), fastest)
	t.Add("Best Latency", with(telemetry.Decimals(least, 2), "ms"), quickest)
	t.Add("Avg Throughput", with(telemetry.Decimals(telemetry.Summarize(rates).Mean, 2), " p/s"), "all configs")
	t.Add("Avg Latency", with(telemetry.Decimals(telemetry.Summarize(latencies).Mean, 2), "ms"), "all configs")
	d.table(&t)
}
