package plots

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

func pointer(x float64) *float64 { return &x }

func run(scale float64) results.Run {
	random := rand.New(rand.NewPCG(1, 1))
	var r results.Run
	for range 100 {
		latency := scale * (250 + 20*random.NormFloat64())
		r.Requests = append(r.Requests, results.Request{StartMS: r.WallMS, LatencyMS: latency, InferenceMS: 0.8 * latency, Pairs: 32})
		r.WallMS += latency
	}
	for k := range 60 {
		s := telemetry.Sample{FromMS: 500 * float64(k), ToMS: 500 * float64(k+1), Figures: telemetry.Figures{
			Machine: telemetry.Machine{GPUMemoryMB: pointer(1000 + float64(k)), CPUUsagePct: pointer(70 + 10*random.Float64())}, ThroughputPairsS: pointer(110 + 10*random.Float64()),
		}}
		if k != 7 {
			s.LatencyMS, s.InferenceMS, s.TokenizationMS = pointer(250), pointer(200), pointer(20)
			s.QueueWaitMS, s.OtherMS, s.PaddingWastePct, s.DeviceBusyPct = pointer(25), pointer(5), pointer(3*random.Float64()), pointer(95)
		}
		r.Samples = append(r.Samples, s)
	}
	return r
}

func drawAll(t *testing.T, r *results.Result) []string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "x_results")
	if keep := os.Getenv("PLOTS"); keep != "" { // to look at them
		folder = filepath.Join(keep, t.Name())
	}
	plots, err := Draw(r, folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range plots {
		names = append(names, strings.TrimSuffix(filepath.Base(p.PNG), ".png"))
		read := func(link string) []byte {
			data, err := os.ReadFile(filepath.Join(filepath.Dir(folder), link))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		image, err := png.Decode(bytes.NewReader(read(p.PNG)))
		if err != nil || image.Bounds().Dx() < 900 {
			t.Errorf("%s: %v", p.PNG, err)
		}
		checkXML(t, read(p.SVG))
	}
	return names
}

func checkXML(t *testing.T, data []byte) {
	t.Helper()
	for decoder := xml.NewDecoder(bytes.NewReader(data)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("SVG: %v", err)
			return
		}
	}
}

func TestOnePoint(t *testing.T) {
	r := &results.Result{Points: []results.Point{{Runs: []results.Run{run(1)}}}}
	if names := drawAll(t, r); !slices.Equal(names, []string{"timeline", "latency"}) {
		t.Errorf("%q", names)
	}
}

func TestSweep(t *testing.T) {
	r := &results.Result{Swept: []string{"length_aware", "batch", "concurrency"}}
	for _, aware := range []bool{false, true} {
		for i, batch := range []int{8, 16, 64} {
			for _, concurrency := range []int{1, 4} {
				p := results.Point{Settings: experiment.Settings{LengthAware: aware, Batch: batch, Concurrency: concurrency}}
				p.Runs = []results.Run{run(float64(1+i) + map[bool]float64{false: 0.5, true: 0.3}[aware] + float64(concurrency)/10)}
				if len(r.Points) > 0 {
					p.Runs[0].Samples = nil // one time line will do
				}
				r.Points = append(r.Points, p)
			}
		}
	}
	r.Points[3].Error = "failed"
	names := drawAll(t, r)
	if len(names) != 2+1+11 || names[0] != "sweep_batch" || names[1] != "sweep_concurrency" || slices.Contains(names, "latency_config4") {
		t.Errorf("%q", names)
	}
}

// Results with few figures are drawn, too.
func TestLittle(t *testing.T) {
	one := results.Run{WallMS: 5, Requests: []results.Request{{LatencyMS: 5, Pairs: 1}}, Samples: []telemetry.Sample{{ToMS: 5}}}
	for _, runs := range [][]results.Run{{one}, {{WallMS: 1}}, nil} {
		r := &results.Result{Swept: []string{"batch"}, Points: []results.Point{{Runs: runs}, {Error: "failed"}}}
		drawAll(t, r)
	}
}
