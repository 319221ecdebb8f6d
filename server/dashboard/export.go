package dashboard

import (
	"fmt"
	"net/http"
	"time"

	"github.com/mlxrank/mlxrank/bench/report"
	"github.com/mlxrank/mlxrank/bench/results"
)

// export answers with a file to keep.
func (d *Dashboard) export(extension, kind string, content func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		name := "mlxrank-dashboard-" + time.Now().Format("20060102-150405") + "." + extension
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
		write(w, content())
	}
}

// exportJSON is what the page is shown from.
func (d *Dashboard) exportJSON() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(d.snapshot(), '\n')
}

// exportMarkdown is the dashboard's sections of a benchmark's report.
func (d *Dashboard) exportMarkdown() []byte {
	d.mu.Lock()
	rows := d.ring.rows()
	d.mu.Unlock()
	info := d.engine.Info()
	return report.Dashboard("mlxrank dashboard", info.Model, info.Device, time.Now(), samples(rows))
}

// samples are rows as a benchmark has them, on a clock that begins with the
// first.
func samples(rows []Row) []results.Sample {
	out := make([]results.Sample, len(rows))
	at := 0.0
	for i, r := range rows {
		out[i] = results.Sample{
			FromMS: at, ToMS: at + r.IntervalMS,
			GPUMemoryMB: r.GPUMemoryMB, GPUUtilizationPct: r.GPUUtilizationPct, ProcessMemoryMB: r.ProcessMemoryMB,
			CPUUsagePct: r.CPUUsagePct, DeviceBusyPct: r.DeviceBusyPct,
			LatencyMS: r.LatencyMS, TokenizationMS: r.TokenizationMS, InferenceMS: r.InferenceMS,
			QueueWaitMS: r.QueueWaitMS, OtherMS: r.OtherMS, PaddingWastePct: r.PaddingWastePct,
		}
		if r.ThroughputPairsS != nil {
			out[i].ThroughputPairsS = *r.ThroughputPairsS
		}
		at += r.IntervalMS
	}
	return out
}
