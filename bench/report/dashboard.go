package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/stats"
)

// Dashboard is the sections of a report that are of samples alone, of a server
// that was watched rather than of a benchmark.
func Dashboard(title, model, device string, at time.Time, samples []results.Sample) []byte {
	run := &results.Run{Samples: samples}
	if n := len(samples); n > 0 {
		run.WallMS = samples[n-1].ToMS - samples[0].FromMS
	}
	d := &document{result: &results.Result{Points: []results.Point{{Engine: &results.Engine{Device: device}, Runs: []results.Run{*run}}}}}
	d.paragraph("# %s", title)
	d.paragraph("**Timestamp:** %s", at.Local().Format("2006-01-02 15:04:05"))
	d.paragraph("**Model:** `%s`", model)
	d.paragraph("**Backend:** `mlx` | **Device:** `%s`", device)
	d.dashboard()
	d.timeSeries()
	return []byte(strings.TrimRight(d.text.String(), "\n") + "\n")
}

// MLX's memory is a GPU's only where it computes on one. On the CPU the rows
// that the seed report has for the GPU's memory are named after MLX.
const (
	gpuMemory = "GPU Memory (MB)"
	mlxMemory = "MLX Memory (MB)"
)

// dashboardRows are the summary's rows, in its order.
var dashboardRows = []struct {
	name string
	of   func(results.Sample) *float64
}{
	{gpuMemory, func(s results.Sample) *float64 { return s.GPUMemoryMB }},
	{"GPU Utilization (%)", func(s results.Sample) *float64 { return s.GPUUtilizationPct }},
	{"CPU Usage (%)", func(s results.Sample) *float64 { return s.CPUUsagePct }},
	{"Tokenization (ms)", func(s results.Sample) *float64 { return s.TokenizationMS }},
	{"Inference (ms)", func(s results.Sample) *float64 { return s.InferenceMS }},
	{"Queue Wait (ms)", func(s results.Sample) *float64 { return s.QueueWaitMS }},
	{"Padding Waste (%)", func(s results.Sample) *float64 { return s.PaddingWastePct }},
}

func (d *document) dashboard() {
	d.paragraph("## Dashboard Metrics Summary")
	d.perConfig(func(p *results.Point, run *results.Run) { d.table(dashboardTable(run.Samples, onCPU(*p))) })
}

// onCPU reports whether a point is known to have run on the CPU.
func onCPU(p results.Point) bool { return p.Engine != nil && p.Engine.Device == "cpu" }

func dashboardTable(samples []results.Sample, cpu bool) *table {
	t := &table{header: []string{"Metric", "Avg", "Min", "Max", "P50", "P95"}}
	for _, row := range dashboardRows {
		if cpu && row.name == gpuMemory {
			row.name = mlxMemory
		}
		var values []float64
		for _, s := range samples {
			if v := row.of(s); v != nil {
				values = append(values, *v)
			}
		}
		s := stats.Summarize(values)
		t.add(row.name, decimals(s.Mean, 1), decimals(s.Min, 1), decimals(s.Max, 1), decimals(s.P50, 1), decimals(s.P95, 1))
	}
	return t
}

func (d *document) timeSeries() {
	d.paragraph("## Dashboard Time-Series Data")
	d.perConfig(func(p *results.Point, run *results.Run) {
		d.table(seriesTable(run.Samples, onCPU(*p)))
		d.paragraph("_%s_", clockNote(run))
	})
}

func seriesTable(samples []results.Sample, cpu bool) *table {
	t := &table{dashes: 5, header: []string{"Index", "GPU Mem (MB)", "GPU Util (%)", "CPU (%)", "Latency (ms)",
		"Throughput", "Tokenize (ms)", "Inference (ms)", "Queue (ms)", "Padding (%)"}}
	if cpu {
		t.header[1] = "MLX Mem (MB)"
	}
	for i, s := range samples {
		one := func(v *float64) string { return decimals(value(v), 1) }
		t.add(fmt.Sprint(i), one(s.GPUMemoryMB), one(s.GPUUtilizationPct), one(s.CPUUsagePct), one(s.LatencyMS),
			decimals(s.ThroughputPairsS, 0), one(s.TokenizationMS), one(s.InferenceMS), one(s.QueueWaitMS), one(s.PaddingWastePct))
	}
	return t
}

// clockNote says what an interval of the series is.
func clockNote(run *results.Run) string {
	if len(run.Samples) == 0 {
		return "The run was too short for a single row."
	}
	interval := math.Inf(1) // rows in which no request ended were joined with the next
	for _, s := range run.Samples {
		interval = min(interval, s.ToMS-s.FromMS)
	}
	note := fmt.Sprintf("A row for every %.0f ms of the clock", interval)
	if interval < 499 {
		note = fmt.Sprintf("The run was short, so a row for every %.1f ms instead of 500", interval)
	}
	note += ", or longer until a request ended; means over the requests that ended in it. Throughput in pairs/s."
	if len(run.Samples) < 10 {
		note += fmt.Sprintf(" The whole run took %.1f ms: too short for ten rows.", run.WallMS)
	}
	return note
}

// stages are the shares of the mean latency.
func (d *document) stages() {
	d.paragraph("## Stage Breakdown")
	d.perConfig(func(_ *results.Point, run *results.Run) { d.table(stageTable(run)) })
}

func stageTable(run *results.Run) *table {
	var tokenization, queueWait, inference, other, latency float64
	for _, r := range run.Requests {
		tokenization += r.TokenizationMS
		queueWait += r.QueueWaitMS
		inference += r.InferenceMS
		other += r.OtherMS()
		latency += r.LatencyMS
	}
	known := run.Known()
	for _, stage := range []struct {
		sum   *float64
		known bool
	}{{&tokenization, known.Tokenization}, {&queueWait, known.QueueWait}, {&inference, known.Inference}, {&other, known.All()}} {
		if !stage.known {
			*stage.sum = math.NaN()
		}
	}
	t := &table{header: []string{"Stage", "Percentage"}}
	for _, row := range []struct {
		name string
		sum  float64
	}{{"Tokenization", tokenization}, {"Queue Wait", queueWait}, {"Model Inference", inference}, {"Other", other}} {
		t.add(row.name, with(decimals(100*row.sum/latency, 1), "%"))
	}
	return t
}

func (d *document) workers() {
	d.paragraph("## Per-Worker Statistics")
	d.perConfig(func(_ *results.Point, run *results.Run) {
		t := table{header: []string{"Worker ID", "Avg Latency (ms)", "P95 Latency (ms)", "Throughput (q/s)", "Queries"}}
		for _, w := range run.Workers {
			t.add(fmt.Sprint(w.ID), decimals(w.MeanMS, 1), "-", decimals(float64(w.Pairs)/(run.WallMS/1000), 1), fmt.Sprint(w.Pairs))
		}
		if len(run.Workers) == 0 {
			t.add("-", "-", "-", "-", "-")
		}
		d.table(&t)
		d.paragraph("_A worker computes shards of batches; latency is a shard's. Queries are pairs._")
	})
}

// busy is how much of the time the device worked for us.
func (d *document) busy() {
	d.paragraph("## Device Busy Share")
	d.perConfig(func(_ *results.Point, run *results.Run) {
		t := table{header: []string{"Part", "Busy (%)"}}
		t.add("device (at least one batch executing)", decimals(value(run.DeviceBusyPct), 1))
		for _, w := range run.Workers {
			t.add(fmt.Sprintf("worker %d", w.ID), decimals(w.BusyPct, 1))
		}
		d.table(&t)
	})
}

func (d *document) repeatability() {
	d.paragraph("## Repeatability")
	d.perConfig(func(p *results.Point, run *results.Run) {
		t := table{header: []string{"Run", "Pairs", "Time(s)", "TP Avg", "Lat P50", "Lat P95", "Device Busy (%)"}}
		var rates []float64
		shown := 0
		for i := range p.Runs {
			r := &p.Runs[i]
			if r == run {
				shown = i + 1
			}
			rates = append(rates, r.Throughput())
			s := stats.Summarize(r.Latencies())
			t.add(fmt.Sprint(i+1), fmt.Sprint(r.Pairs()), decimals(r.WallMS/1000, 2), decimals(r.Throughput(), 1),
				with(decimals(s.P50, 1), "ms"), with(decimals(s.P95, 1), "ms"), decimals(value(r.DeviceBusyPct), 1))
		}
		d.table(&t)
		d.paragraph("%s", spread(rates))
		switch {
		case len(rates) == 2:
			d.paragraph("_Results Summary, Detailed Metrics and Overall Summary show the mean of both runs, the other sections run %d, the slower one._", shown)
		case len(rates) > 2:
			d.paragraph("_The sections above show run %d, that of the median throughput._", shown)
		}
	})
}

// spread describes the throughputs of the runs.
func spread(rates []float64) string {
	s := stats.Summarize(rates)
	share, deviation := 100*spreadOf(rates), math.NaN()
	if s.N > 1 {
		deviation = 100 * s.StdDev / s.Mean
	}
	ci := stats.MeanInterval(rates)
	return fmt.Sprintf("**Throughput:** %s, median %s pairs/s, spread %s (from least to most, of the median), deviation %s; 95 %% confidence interval of the mean %s (bootstrap over runs)",
		count(s.N), decimals(s.P50, 1), with(decimals(share, 1), " %"), with(decimals(deviation, 1), " %"), interval(ci))
}

func count(runs int) string {
	if runs == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", runs)
}

func interval(i stats.Interval) string {
	if math.IsNaN(i.Low) {
		return "-"
	}
	return fmt.Sprintf("%.1f to %.1f", i.Low, i.High)
}
