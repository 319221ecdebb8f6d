package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// serverHeader writes the lines that describe a server, from its /info.
func (d *document) serverHeader(s *results.Server) {
	d.paragraph("**Model:** `%s`", orDash(oneLine(cmp.Or(s.Info["model_id"], s.Model))))
	d.paragraph("**Backend:** `%s` (API %s) | **Device:** `%s`", s.URL, s.API, orDash(oneLine(s.Info["device"])))
	d.paragraph("**Dynamic Batching:** the server's own (max_batch=%s, timeout=-)", orDash(oneLine(s.Info["max_batch_requests"])))
	d.paragraph("**Policy:** - | **Length-Aware:** - | **Mode:** %s | **Load:** %s",
		d.each(func(p results.Point) string { return p.Settings.Mode }), d.each(load))
}

// serverRows adds rows that describe the server.
func (d *document) serverRows(t *telemetry.Table, s *results.Server) {
	t.Add("Measured from", "the machine above")
	t.Add("Server", oneLine(s.URL))
	t.Add("API", s.API)
	t.Add("Model requested", orDash(oneLine(s.Model)))
	for _, name := range slices.Sorted(maps.Keys(s.Info)) {
		t.Add("Server's "+oneLine(name), oneLine(s.Info[name]))
	}
	if len(s.Info) == 0 {
		t.Add("Server's /info", "-")
	}
	t.Add("Workload", d.each(func(p results.Point) string {
		if p.Engine == nil {
			return "-"
		}
		return fmt.Sprintf("%s, %d pairs, SHA-256 %.16s", p.Engine.Workload, p.Engine.WorkloadPairs, p.Engine.WorkloadSHA256)
	}))
}

// oneLine makes foreign text safe for a table.
func oneLine(text string) string {
	return strings.NewReplacer("|", `\|`, "`", "'", "\n", " ").Replace(text)
}

// clientAndServer compares the times that clients saw with those that the server
// reported.
func (d *document) clientAndServer() {
	if d.result.Environment.Server == nil {
		return
	}
	d.paragraph("## Client and Server")
	d.perConfig(func(_ *results.Point, run *results.Run) {
		d.table(sidesTable(run))
		d.paragraph("_Milliseconds per request. The client's latency includes writing and reading JSON. - means that the server did not report the time with every answer._")
	})
}

func sidesTable(run *results.Run) *telemetry.Table {
	t := &telemetry.Table{Header: []string{"Time (ms)", "Avg", "P50", "P95", "P99"}}
	for _, row := range []struct {
		name string
		of   func(results.Request, *results.ServerSide) *float64
	}{
		{"Client: latency", func(r results.Request, _ *results.ServerSide) *float64 { return &r.LatencyMS }},
		{"Server: total", func(_ results.Request, s *results.ServerSide) *float64 { return s.TotalMS }},
		{"Server: tokenization", func(_ results.Request, s *results.ServerSide) *float64 { return s.TokenizationMS }},
		{"Server: queue wait", func(_ results.Request, s *results.ServerSide) *float64 { return s.QueueWaitMS }},
		{"Server: inference", func(_ results.Request, s *results.ServerSide) *float64 { return s.InferenceMS }},
		{"Client less server's total", func(r results.Request, s *results.ServerSide) *float64 {
			if s.TotalMS == nil {
				return nil
			}
			rest := r.LatencyMS - *s.TotalMS
			return &rest
		}},
	} {
		var values []float64
		for _, r := range run.Requests {
			if r.Server == nil {
				continue
			}
			if v := row.of(r, r.Server); v != nil {
				values = append(values, *v)
			}
		}
		if len(values) < len(run.Requests) {
			values = nil // the mean of some requests does not compare with the mean of all
		}
		s := telemetry.Summarize(values)
		t.Add(row.name, telemetry.Decimals(s.Mean, 3), telemetry.Decimals(s.P50, 3), telemetry.Decimals(s.P95, 3), telemetry.Decimals(s.P99, 3))
	}
	return t
}
