package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// Profile returns the report's section Profile, "" if no run has a profile.
func Profile(r *results.Result) string {
	d := &document{result: r}
	d.profile()
	return strings.TrimSuffix(d.text.String(), "\n")
}

func (d *document) profile() {
	if !profiled(d.result) {
		return
	}
	d.paragraph("## Profile")
	d.perConfig(func(p *results.Point, run *results.Run) {
		if run.Profile == nil {
			d.paragraph("This run was not profiled.")
			return
		}
		d.table(timeTable(run.Profile))
		d.table(workTable(run.Profile))
		d.paragraph("_%s_", profileNote(p.Engine, run.Profile))
	})
}

func profiled(r *results.Result) bool {
	for i := range r.Points {
		if run := r.Points[i].Typical(); run != nil && run.Profile != nil {
			return true
		}
	}
	return false
}

// timeTable makes a row for each class of work, and a total.
func timeTable(p *results.Profile) *telemetry.Table {
	t := &telemetry.Table{Header: []string{"Work", "Thread Time (ms)", "Share", "GFLOP/s per Thread", "Calls"}}
	rows := p.Rows()
	var total float64
	for _, row := range rows {
		total += row.MS
	}
	for _, row := range rows {
		rate, calls := math.NaN(), "-"
		if row.FLOPs > 0 {
			rate = float64(row.FLOPs) / row.MS / 1e6
		}
		if row.Calls > 0 {
			calls = fmt.Sprint(row.Calls)
		}
		t.Add(row.Name, telemetry.Decimals(row.MS, 1), with(telemetry.Decimals(100*row.MS/total, 1), "%"), telemetry.Decimals(rate, 1), calls)
	}
	t.Add("total", telemetry.Decimals(total, 1), with(telemetry.Decimals(100*total/total, 1), "%"), "-", "-")
	return t
}

// workTable compares the arithmetic executed with the arithmetic needed.
func workTable(p *results.Profile) *telemetry.Table {
	t := &telemetry.Table{Header: []string{"MFLOP per Pair", "Executed", "Needed", "Executed / Needed"}}
	both := results.Work{FLOPs: p.Matmul.FLOPs + p.Attend.FLOPs, Needed: p.Matmul.Needed + p.Attend.Needed}
	for _, row := range []struct {
		name string
		work results.Work
	}{{"matmul", p.Matmul}, {"attention", p.Attend}, {"both", both}} {
		each := func(flops int64) string { return telemetry.Decimals(float64(flops)/float64(p.Pairs)/1e6, 1) }
		t.Add(row.name, each(row.work.FLOPs), each(row.work.Needed), telemetry.Decimals(float64(row.work.FLOPs)/float64(row.work.Needed), 3))
	}
	return t
}

// profileNote explains the rows.
func profileNote(e *results.Engine, p *results.Profile) string {
	graph := "The fused graph adds bias and activation (GELU) in the registers of the GEMM, so they are part of matmul. Embeddings include their LayerNorm. "
	if e != nil && e.Kernels == results.UnfusedGraph {
		graph = "For the profile the unfused graph was evaluated operation by operation, which is slower than without a profile. " +
			"A row includes MLX's hand-over between threads, embeddings include their LayerNorm, attention its transpositions. "
	}
	return fmt.Sprintf("Time of all threads together: %d workers in the %.1f ms that the session was busy, and the tokenizer's workers. "+
		"Time in which the system ran something else on a thread counts for its row. %s"+
		"Rest of the pass: MLX's hand-over between threads, waiting for a helper, and operations without a row. Waiting: workers without a microbatch while others had one.",
		p.Workers, p.BusyMS, graph)
}
