package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/report/reporttest"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

func parse(t *testing.T, text string) []reporttest.Section {
	t.Helper()
	sections, err := reporttest.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return sections
}

func seedReport(t *testing.T) []reporttest.Section {
	t.Helper()
	data, err := os.ReadFile("testdata/seed.md")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(data))
}

// seedRows returns the rows of the seed report's time series.
func seedRows(t *testing.T) []telemetry.Sample {
	t.Helper()
	table := reporttest.Find(seedReport(t), "Dashboard Time-Series Data").Tables[0]
	var rows []telemetry.Sample
	for i, row := range table.Rows {
		if row[0] != strconv.Itoa(i) {
			t.Fatalf("row %d has index %s", i, row[0])
		}
		number := func(cell int) *float64 {
			x, err := strconv.ParseFloat(row[cell], 64)
			if err != nil {
				t.Fatal(err)
			}
			return &x
		}
		rows = append(rows, telemetry.Sample{
			FromMS: 500 * float64(i), ToMS: 500 * float64(i+1), Figures: telemetry.Figures{
				Machine: telemetry.Machine{GPUMemoryMB: number(1), GPUUtilizationPct: number(2), CPUUsagePct: number(3)}, LatencyMS: number(4),
				ThroughputPairsS: number(5), TokenizationMS: number(6), InferenceMS: number(7), QueueWaitMS: number(8), PaddingWastePct: number(9),
			}})
	}
	return rows
}

// The seed's rows give the seed's summary and the seed's series.
func TestSeedSummary(t *testing.T) {
	rows := seedRows(t)
	if len(rows) != 60 {
		t.Fatalf("%d rows", len(rows))
	}
	data, err := os.ReadFile("testdata/seed.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, table := range map[string]*telemetry.Table{"summary": telemetry.SummaryTable(rows, false), "series": telemetry.SeriesTable(rows, false)} {
		if !strings.Contains(string(data), "\n"+table.String()) {
			t.Errorf("%s: the seed report does not hold\n%s", name, table)
		}
	}
}

func pointer(x float64) *float64 { return &x }

// result makes results with the given number of points.
func result(points int) *results.Result {
	random := rand.New(rand.NewPCG(1, 1))
	started := time.Date(2025, 12, 26, 2, 25, 54, 0, time.Local)
	finished := started.Add(29 * time.Second)
	r := &results.Result{
		Schema: results.Schema, Name: "14_optimized_production", Description: "Production-optimized config: MLX + Length-Aware Batching",
		Started: started, Finished: &finished,
		Environment: results.Environment{Program: "0.1.0", Go: "go1.26", OS: "linux", Chip: "chip", Cores: 2, Memory: 8 << 30},
	}
	for i := range points {
		p := results.Point{
			Settings: experiment.Settings{
				Model: "cross-encoder/ms-marco-MiniLM-L-6-v2", Batch: 32 << i, Concurrency: 1, Requests: 100,
				MaxBatch: 256, BatchTimeoutMS: 200, LengthAware: true, Mode: "full", Runs: 1,
			},
			Engine: &results.Engine{Info: telemetry.Info{Device: "gpu", MaxLength: 512}, TokenLengths: []int{0, 0, 0, 5, 3}, WorkloadPairs: 8},
		}
		if i > 0 {
			r.Swept = []string{"batch"}
		}
		run := results.Run{Started: started, DeviceBusyPct: pointer(97), Workers: []results.Worker{{ID: 0, Pairs: 3200, MeanMS: 10, BusyPct: 90}}}
		for range 100 {
			latency := 250 + 100*random.Float64()
			run.Requests = append(run.Requests, results.Request{
				StartMS: run.WallMS, LatencyMS: latency, InferenceMS: 0.9 * latency, TokenizationMS: 0.05 * latency, QueueWaitMS: 0.01 * latency,
				Pairs: 32 << i, Tokens: 3000, ComputedTokens: 3100,
			})
			run.WallMS += latency
		}
		for k := range 60 {
			run.Samples = append(run.Samples, telemetry.Sample{FromMS: 500 * float64(k), ToMS: 500 * float64(k+1), Figures: telemetry.Figures{
				Machine:   telemetry.Machine{GPUMemoryMB: pointer(1000), GPUUtilizationPct: pointer(22), CPUUsagePct: pointer(70)},
				LatencyMS: pointer(280), ThroughputPairsS: pointer(113.9), TokenizationMS: pointer(10), InferenceMS: pointer(250), QueueWaitMS: pointer(0), PaddingWastePct: pointer(3),
			}})
		}
		p.Runs = []results.Run{run}
		r.Points = append(r.Points, p)
	}
	return r
}

// addedFields lists our additions to sections of the seed report.
var addedFields = []string{"Verdict", "Policy", "Length-Aware", "Mode", "Load"}

// TestStructure compares the seed report with ours: same sections in the same order,
// same fields, tables, rows and decimals.
func TestStructure(t *testing.T) {
	seed, ours := seedReport(t), parse(t, string(Markdown(result(1), nil)))
	if len(seed) != 10 || len(ours) < len(seed) {
		t.Fatalf("%d sections of the seed, %d of ours", len(seed), len(ours))
	}
	for i, want := range seed {
		got := ours[i]
		if got.Level != want.Level || got.Title != want.Title {
			t.Errorf("section %d is %d %q, want %d %q", i, got.Level, got.Title, want.Level, want.Title)
		}
		fields := slices.DeleteFunc(slices.Clone(got.Fields), func(f string) bool { return slices.Contains(addedFields, f) })
		if !slices.Equal(fields, want.Fields) {
			t.Errorf("%s: fields %q, want %q", want.Title, fields, want.Fields)
		}
		if len(got.Tables) != len(want.Tables) {
			t.Errorf("%s: %d tables, want %d", want.Title, len(got.Tables), len(want.Tables))
			continue
		}
		for k := range want.Tables {
			sameTable(t, want.Title, got.Tables[k], want.Tables[k])
		}
		for _, line := range want.Lines {
			if !slices.ContainsFunc(got.Lines, func(l string) bool {
				return reporttest.Shape(l) == reporttest.Shape(line) || strings.HasPrefix(line, "**Device")
			}) &&
				!strings.HasPrefix(line, "**Backend") {
				t.Errorf("%s: no line like %q in %q", want.Title, line, got.Lines)
			}
		}
	}
	for _, title := range []string{"Stage Breakdown", "Per-Worker Statistics", "Device Busy Share", "Repeatability", "Environment", "Token Lengths"} {
		if s := reporttest.Find(ours, title); s == nil || len(s.Tables) != 1 {
			t.Errorf("no section %s with a table", title)
		}
	}
}

func sameTable(t *testing.T, title string, got, want reporttest.Table) {
	t.Helper()
	if !slices.Equal(got.Header, want.Header) || got.Separator != want.Separator {
		t.Errorf("%s: header %q\n%s\nwant %q\n%s", title, got.Header, got.Separator, want.Header, want.Separator)
	}
	if len(got.Rows) != len(want.Rows) {
		t.Errorf("%s: %d rows, want %d", title, len(got.Rows), len(want.Rows))
		return
	}
	for i := range want.Rows {
		for k := range want.Rows[i] {
			if reporttest.Shape(got.Rows[i][k]) != reporttest.Shape(want.Rows[i][k]) {
				t.Errorf("%s: row %d has %q where the seed has %q", title, i, got.Rows[i][k], want.Rows[i][k])
			}
		}
	}
}

// Shape distinguishes decimals and units.
func TestShape(t *testing.T) {
	for _, test := range []struct{ cell, want string }{
		{"280.93", "9.99"}, {"1182.1", "9.9"}, {"3200", "9"}, {"280.9ms", "9.9ms"}, {"-0.988", "9.999"},
		{"280.3-288.3ms (P50-P75)", "9.9-9.9ms (P9-P9)"}, {"< 11.11ms", "< 9.99ms"},
	} {
		if got := reporttest.Shape(test.cell); got != test.want {
			t.Errorf("%s: %s, want %s", test.cell, got, test.want)
		}
	}
}

// Our formulas give the seed's figures.
func TestFigures(t *testing.T) {
	r := result(1)
	run := &r.Points[0].Runs[0]
	f := newFigures([]*results.Run{run})
	if got, want := f.rate.Max, 32/(f.latency.Min/1000); math.Abs(got-want) > 1e-9 {
		t.Errorf("most %v, want %v", got, want)
	}
	if got, want := run.Throughput(), 3200/(run.WallMS/1000); got != want {
		t.Errorf("throughput %v, want %v", got, want)
	}
	ours := parse(t, string(Markdown(r, nil)))
	bands := reporttest.Find(ours, "Latency vs Throughput Analysis").Tables[0]
	for i, want := range []string{"50", "25", "15", "10"} {
		if bands.Rows[i][4] != want {
			t.Errorf("band %q, want %s", bands.Rows[i], want)
		}
	}
	stages := reporttest.Find(ours, "Stage Breakdown").Tables[0]
	for i, want := range []string{"5.0%", "1.0%", "90.0%", "4.0%"} {
		if stages.Rows[i][1] != want {
			t.Errorf("stage %q, want %s", stages.Rows[i], want)
		}
	}
}

func TestSeveralPoints(t *testing.T) {
	r := result(3)
	r.Points[1].Error, r.Points[1].Runs = "engine: no such device", nil
	r.Finished = nil
	ours := parse(t, string(Markdown(r, []Plot{{"Latency", "x/latency.png", "x/latency.svg"}})))
	if ours[0].Title != "14_optimized_production (PARTIAL)" {
		t.Errorf("title %q", ours[0].Title)
	}
	rows := ours[1].Tables[0].Rows
	if len(rows) != 3 || !slices.Equal(rows[1], []string{"64", "1", "ERROR", "-", "-", "-", "-", "-", "-"}) {
		t.Errorf("summary %q", rows)
	}
	failed := reporttest.Find(ours, "Config 2: **ERROR**")
	if failed == nil || !slices.Contains(failed.Lines, "Error: engine: no such device") || !slices.Contains(failed.Lines, "Settings: batch=64, concurrency=1") {
		t.Errorf("failed point: %+v", failed)
	}
	overall := reporttest.Find(ours, "Overall Summary").Tables[0].Rows
	if overall[0][2] != "batch=128, conc=1" || overall[1][2] == "-" {
		t.Errorf("overall %q", overall)
	}
	if s := reporttest.Find(ours, "Plots"); s == nil || !strings.Contains(strings.Join(s.Lines, "\n"), "](x/latency.png)") {
		t.Errorf("plots %+v", s)
	}
}

// The report gives the launches of the variant that ran, and the numbers are those
// that native/test/launches.cpp counts.
func TestLaunches(t *testing.T) {
	data, err := os.ReadFile("../../docs/dev/metal.md")
	if err != nil {
		t.Fatal(err)
	}
	for variant, n := range launches {
		if row := fmt.Sprintf("\n| `%s` | %d, ", variant, n); !strings.Contains(string(data), row) {
			t.Errorf("docs/dev/metal.md has no row that begins with %q", row)
		}
	}
	for _, c := range []struct{ model, device, variant, want string }{
		{"builtin", "gpu", "packed", "64"},
		{"builtin", "cpu", "", "-"},
		{"other", "gpu", "packed", "-"},
	} {
		r := result(1)
		e := r.Points[0].Engine
		e.Model, e.Device, e.Variant = c.model, c.device, c.variant
		if row := "| Kernel launches of a pass | " + c.want + " |"; !strings.Contains(string(Markdown(r, nil)), row) {
			t.Errorf("%+v: the report has no row %q", c, row)
		}
	}
}

// Swept settings without a column in the seed's tables have a table of their own.
func TestOtherSettings(t *testing.T) {
	r := result(2)
	r.Swept = []string{"batch_timeout_ms", "batch"}
	r.Points[0].Settings.BatchTimeoutMS = 0
	if text := string(Markdown(r, nil)); !strings.Contains(text, "**Policy:** continuous, batch timeout | ") {
		t.Errorf("the policy follows from the batch timeout: %.1000s", text)
	}
	ours := parse(t, string(Markdown(r, nil)))
	if rows := ours[1].Tables[1].Rows; len(rows) != 2 || rows[1][1] != "batch=64, concurrency=1, batch_timeout_ms=200" {
		t.Errorf("%q", rows)
	}
	if row := reporttest.Find(ours, "Overall Summary").Tables[0].Rows[0]; row[2] != "batch=64, conc=1, batch_timeout_ms=200" {
		t.Errorf("%q", row)
	}
}

// A figure that was not measured is "-" everywhere, never 0 or NaN.
func TestNothingMeasured(t *testing.T) {
	r := result(1)
	r.Points[0].Runs = []results.Run{{WallMS: 5}}
	r.Points[0].Engine = nil
	text := string(Markdown(r, nil))
	for _, wrong := range []string{"NaN", "+Inf", "-Inf", "<nil>"} {
		if strings.Contains(text, wrong) {
			t.Errorf("the report has %s:\n%s", wrong, text)
		}
	}
	r.Points[0].Error = "failed"
	ours := parse(t, string(Markdown(r, nil)))
	for _, row := range reporttest.Find(ours, "Overall Summary").Tables[0].Rows {
		if row[1] != "-" {
			t.Errorf("%q", row)
		}
	}
}

func TestRepeatability(t *testing.T) {
	r := result(1)
	p := &r.Points[0]
	one := parse(t, string(Markdown(r, nil)))
	if line := reporttest.Find(one, "Repeatability").Lines[0]; !strings.Contains(line, "spread - ") || !strings.Contains(line, "mean - ") {
		t.Errorf("one run: %s", line)
	}
	p.Runs = []results.Run{p.Runs[0], p.Runs[0], p.Runs[0]}
	p.Runs[1].WallMS *= 1.1
	p.Runs[2].WallMS *= 0.9
	if p.Typical() != &p.Runs[0] {
		t.Error("the typical run is not that of the median")
	}
	three := reporttest.Find(parse(t, string(Markdown(r, nil))), "Repeatability")
	if len(three.Tables[0].Rows) != 3 || strings.Contains(three.Lines[0], "spread - ") || !strings.Contains(three.Lines[1], "show run 1,") {
		t.Errorf("%+v", three)
	}
}
