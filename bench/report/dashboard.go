package report

import (
	"fmt"
	"math"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/stats"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

func (d *document) dashboard() {
	d.paragraph("## Dashboard Metrics Summary")
	d.perConfig(func(p *results.Point, run *results.Run) { d.table(telemetry.SummaryTable(run.Samples, onCPU(p))) })
}

// onCPU reports whether a point is known to have run on the CPU.
func onCPU(p *results.Point) bool { return p.Engine != nil && p.Engine.Device == "cpu" }

func (d *document) timeSeries() {
	d.paragraph("## Dashboard Time-Series Data")
	d.perConfig(func(p *results.Point, run *results.Run) {
		d.table(telemetry.SeriesTable(run.Samples, onCPU(p)))
		d.paragraph("_%s_", telemetry.SeriesNote(run.Samples))
	})
}

// stages writes the shares of the mean latency.
func (d *document) stages() {
	d.paragraph("## Stage Breakdown")
	d.perConfig(func(_ *results.Point, run *results.Run) { d.table(stageTable(run)) })
}

func stageTable(run *results.Run) *telemetry.Table {
	var tokenization, queueWait, inference, other, latency float64
	for _, r := range run.Requests {
		tokenization += r.TokenizationMS
		queueWait += r.QueueWaitMS
		inference += r.InferenceMS
		other += r.OtherMS()
		latency += r.LatencyMS
	}
	known := run.Known()
	t := &telemetry.Table{Header: []string{"Stage", "Percentage"}}
	for _, stage := range []struct {
		name  string
		sum   float64
		known bool
	}{
		{"Tokenization", tokenization, known.Tokenization}, {"Queue Wait", queueWait, known.QueueWait},
		{"Model Inference", inference, known.Inference}, {"Other", other, known.All()},
	} {
		if !stage.known {
			stage.sum = math.NaN()
		}
		t.Add(stage.name, with(telemetry.Decimals(100*stage.sum/latency, 1), "%"))
	}
	return t
}

func (d *document) workers() {
	d.paragraph("## Per-Worker Statistics")
	d.perConfig(func(_ *results.Point, run *results.Run) {
		t := telemetry.Table{Header: []string{"Worker ID", "Avg Latency (ms)", "P95 Latency (ms)", "Throughput (q/s)", "Queries"}}
		for _, w := range run.Workers {
			t.Add(fmt.Sprint(w.ID), telemetry.Decimals(w.MeanMS, 1), "-", telemetry.Decimals(float64(w.Pairs)/(run.WallMS/1000), 1), fmt.Sprint(w.Pairs))
		}
		if len(run.Workers) == 0 {
			t.Add("-", "-", "-", "-", "-")
		}
		d.table(&t)
		d.paragraph("_A worker is a CPU thread that computes microbatches. Latency is the time of a microbatch. Queries are pairs._")
	})
}

// busy writes the share of time in which the device and the workers were busy.
func (d *document) busy() {
	d.paragraph("## Device Busy Share")
	d.perConfig(func(_ *results.Point, run *results.Run) {
		t := telemetry.Table{Header: []string{"Part", "Busy (%)"}}
		t.Add("device (at least one batch executing)", telemetry.Decimals(telemetry.Value(run.DeviceBusyPct), 1))
		for _, w := range run.Workers {
			t.Add(fmt.Sprintf("worker %d", w.ID), telemetry.Decimals(w.BusyPct, 1))
		}
		d.table(&t)
	})
}

func (d *document) repeatability() {
	d.paragraph("## Repeatability")
	d.perConfig(func(p *results.Point, run *results.Run) {
		t := telemetry.Table{Header: []string{"Run", "Pairs", "Time(s)", "TP Avg", "Lat P50", "Lat P95", "Device Busy (%)"}}
		var rates []float64
		shown := 0
		for i := range p.Runs {
			r := &p.Runs[i]
			if r == run {
				shown = i + 1
			}
			rates = append(rates, r.Throughput())
			s := telemetry.Summarize(r.Latencies())
			t.Add(fmt.Sprint(i+1), fmt.Sprint(r.Pairs()), telemetry.Decimals(r.WallMS/1000, 2), telemetry.Decimals(r.Throughput(), 1),
				with(telemetry.Decimals(s.P50, 1), "ms"), with(telemetry.Decimals(s.P95, 1), "ms"), telemetry.Decimals(telemetry.Value(r.DeviceBusyPct), 1))
		}
		d.table(&t)
		d.paragraph("%s", spread(rates))
		switch {
		case len(rates) == 2:
			d.paragraph("_Results Summary, Detailed Metrics and Overall Summary show the mean of both runs; the other sections show run %d, the slower one._", shown)
		case len(rates) > 2:
			d.paragraph("_The sections above show run %d, the run with the median throughput._", shown)
		}
	})
}

// spread describes how far the throughputs of the runs are apart.
func spread(rates []float64) string {
	s := telemetry.Summarize(rates)
	share, deviation := 100*relativeSpread(rates), math.NaN()
	if s.N > 1 {
		deviation = 100 * s.StdDev / s.Mean
	}
	ci := stats.MeanInterval(rates)
	return fmt.Sprintf("**Throughput:** %s, median %s pairs/s, spread %s (highest less lowest, relative to the median), deviation %s; 95 %% confidence interval of the mean %s (bootstrap over runs)",
		count(s.N, "run"), telemetry.Decimals(s.P50, 1), with(telemetry.Decimals(share, 1), " %"), with(telemetry.Decimals(deviation, 1), " %"), interval(ci))
}

// count returns "1 run" or "2 runs".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func interval(i stats.Interval) string {
	if math.IsNaN(i.Low) {
		return "-"
	}
	return fmt.Sprintf("%.1f to %.1f", i.Low, i.High)
}
