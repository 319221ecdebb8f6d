package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/mlxrank/mlxrank/bench/results"
)

// Profile is the report's section of where the time went, "" if no run has a
// profile.
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

// timeTable has a row for each class of work, and their sum.
func timeTable(p *results.Profile) *table {
	t := &table{header: []string{"Work", "Thread Time (ms)", "Share", "GFLOP/s per Thread", "Calls"}}
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
		t.add(row.Name, decimals(row.MS, 1), with(decimals(100*row.MS/total, 1), "%"), decimals(rate, 1), calls)
	}
	t.add("total", decimals(total, 1), with(decimals(100*total/total, 1), "%"), "-", "-")
	return t
}

// workTable sets the arithmetic that was done against what had to be.
func workTable(p *results.Profile) *table {
	t := &table{header: []string{"MFLOP per Pair", "Executed", "Needed", "Executed / Needed"}}
	both := results.Work{FLOPs: p.Product.FLOPs + p.Attend.FLOPs, Needed: p.Product.Needed + p.Attend.Needed}
	for _, row := range []struct {
		name string
		work results.Work
	}{{"products", p.Product}, {"attention", p.Attend}, {"both", both}} {
		each := func(flops int64) string { return decimals(float64(flops)/float64(p.Pairs)/1e6, 1) }
		t.add(row.name, each(row.work.FLOPs), each(row.work.Needed), decimals(float64(row.work.FLOPs)/float64(row.work.Needed), 3))
	}
	return t
}

// profileNote says what the rows are.
func profileNote(e *results.Engine, p *results.Profile) string {
	graph := "Bias and activation (GELU) are added in the registers of the products, and so cannot be told from them. Embeddings have their LayerNorm in them. "
	if e != nil && e.Kernels == results.PlainGraph {
		graph = "The figures are of a pass evaluated operation by operation, which the plain graph otherwise is not: it is slower so. " +
			"A row has MLX's hand-over between threads in it, embeddings their LayerNorm, attention its transpositions. "
	}
	return fmt.Sprintf("Time of all threads together: %d lanes in the %.1f ms that the session was busy, and the tokenizer's workers. "+
		"A thread that the system set aside is in its row still. %s"+
		"Rest of the pass: MLX's hand-over between threads, waiting for a helper, and operations without a row. Waiting: lanes without a shard while others had one.",
		p.Lanes, p.BusyMS, graph)
}
