package telemetry

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A Table is a table of a report in Markdown. Its separator is as wide as its
// header.
type Table struct {
	Header []string
	Dashes int // width of every separator, 0 for the width of the header
	rows   [][]string
}

// Add adds a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *Table) String() string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(t.Header, " | ") + " |\n|")
	for _, name := range t.Header {
		n := t.Dashes
		if n == 0 {
			n = len(name) + 2
		}
		b.WriteString(strings.Repeat("-", n) + "|")
	}
	b.WriteByte('\n')
	for _, row := range t.rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return b.String()
}

// Decimals formats a number with n decimals, and "-" in place of NaN and
// infinity.
func Decimals(x float64, n int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', n, 64)
}

// Value returns *p, NaN if p is nil.
func Value(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}

// The rows of SummaryTable. MLX's memory is a GPU's only where MLX computes on
// one: on the CPU the row is named after MLX.
var summaryRows = []struct {
	name, onCPU string
	value       func(*Figures) *float64
}{
	{"GPU Memory (MB)", "MLX Memory (MB)", func(f *Figures) *float64 { return f.GPUMemoryMB }},
	{"GPU Utilization (%)", "", func(f *Figures) *float64 { return f.GPUUtilizationPct }},
	{"CPU Usage (%)", "", func(f *Figures) *float64 { return f.CPUUsagePct }},
	{"Tokenization (ms)", "", func(f *Figures) *float64 { return f.TokenizationMS }},
	{"Inference (ms)", "", func(f *Figures) *float64 { return f.InferenceMS }},
	{"Queue Wait (ms)", "", func(f *Figures) *float64 { return f.QueueWaitMS }},
	{"Padding Waste (%)", "", func(f *Figures) *float64 { return f.PaddingWastePct }},
}

// SummaryTable describes the figures of samples. cpu is set if MLX computed on
// the CPU.
func SummaryTable(samples []Sample, cpu bool) *Table {
	t := &Table{Header: []string{"Metric", "Avg", "Min", "Max", "P50", "P95"}}
	for _, row := range summaryRows {
		if cpu && row.onCPU != "" {
			row.name = row.onCPU
		}
		var values []float64
		for i := range samples {
			if v := row.value(&samples[i].Figures); v != nil {
				values = append(values, *v)
			}
		}
		s := Summarize(values)
		t.Add(row.name, Decimals(s.Mean, 1), Decimals(s.Min, 1), Decimals(s.Max, 1), Decimals(s.P50, 1), Decimals(s.P95, 1))
	}
	return t
}

// SeriesTable lists samples. cpu is set if MLX computed on the CPU.
func SeriesTable(samples []Sample, cpu bool) *Table {
	t := &Table{Dashes: 5, Header: []string{"Index", "GPU Mem (MB)", "GPU Util (%)", "CPU (%)", "Latency (ms)",
		"Throughput", "Tokenize (ms)", "Inference (ms)", "Queue (ms)", "Padding (%)"}}
	if cpu {
		t.Header[1] = "MLX Mem (MB)"
	}
	for i, s := range samples {
		one := func(v *float64) string { return Decimals(Value(v), 1) }
		t.Add(fmt.Sprint(i), one(s.GPUMemoryMB), one(s.GPUUtilizationPct), one(s.CPUUsagePct), one(s.LatencyMS),
			Decimals(Value(s.ThroughputPairsS), 0), one(s.TokenizationMS), one(s.InferenceMS), one(s.QueueWaitMS), one(s.PaddingWastePct))
	}
	return t
}

// SeriesNote explains the intervals of a SeriesTable.
func SeriesNote(samples []Sample) string {
	if len(samples) == 0 {
		return "The run was too short for a single row."
	}
	interval := math.Inf(1) // rows in which no request ended were joined with the next
	for _, s := range samples {
		interval = min(interval, s.ToMS-s.FromMS)
	}
	note := fmt.Sprintf("Each row covers %.0f ms", interval)
	if interval < 499 {
		note = fmt.Sprintf("The run was short, so each row covers %.1f ms instead of 500", interval)
	}
	note += ", or more until a request ended. Times are means over the requests that ended in it. Throughput is in pairs/s."
	if len(samples) < 10 {
		note += fmt.Sprintf(" The whole run took %.1f ms: too short for ten rows.", samples[len(samples)-1].ToMS-samples[0].FromMS)
	}
	return note
}
