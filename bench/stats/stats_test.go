package stats

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

type golden struct {
	Name        string
	Values      []float64
	Mean, Std   float64
	Percentiles map[string]float64
	Correlation *float64
}

func goldens(t *testing.T) []golden {
	t.Helper()
	file, err := os.Open("testdata/numpy.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Cases []golden }
	if err := json.NewDecoder(unzipped).Decode(&all); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return all.Cases
}

func TestAsNumpy(t *testing.T) {
	cases := goldens(t)
	if len(cases) < 15 {
		t.Fatalf("%d recorded samples", len(cases))
	}
	for _, g := range cases {
		s := telemetry.Summarize(g.Values)
		for name, want := range g.Percentiles {
			p, err := strconv.ParseFloat(name, 64)
			if err != nil {
				t.Fatal(err)
			}
			if got := telemetry.Percentile(g.Values, p); got != want {
				t.Errorf("%s: P%s is %v, numpy says %v", g.Name, name, got, want)
			}
		}
		if s.P50 != g.Percentiles["50"] || s.P75 != g.Percentiles["75"] || s.P90 != g.Percentiles["90"] ||
			s.P95 != g.Percentiles["95"] || s.P99 != g.Percentiles["99"] || s.Min != g.Percentiles["0"] || s.Max != g.Percentiles["100"] {
			t.Errorf("%s: %+v, numpy says %v", g.Name, s, g.Percentiles)
		}
		if !near(s.Mean, g.Mean) || !near(s.StdDev, g.Std) {
			t.Errorf("%s: mean %v, deviation %v; numpy says %v, %v", g.Name, s.Mean, s.StdDev, g.Mean, g.Std)
		}
		if g.Correlation == nil {
			continue
		}
		rates := make([]float64, len(g.Values))
		for i, v := range g.Values {
			rates[i] = 32000 / v
		}
		if got := Correlation(g.Values, rates); !near(got, *g.Correlation) {
			t.Errorf("%s: correlation %v, numpy says %v", g.Name, got, *g.Correlation)
		}
	}
}

// near tolerates another order of summation.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-12*max(1, math.Abs(b)) }

func TestNothingIsNaN(t *testing.T) {
	s := telemetry.Summarize(nil)
	if s.N != 0 || !math.IsNaN(s.Mean) || !math.IsNaN(s.Min) || !math.IsNaN(s.P99) || !math.IsNaN(telemetry.Percentile(nil, 50)) || !math.IsNaN(Correlation(nil, nil)) {
		t.Errorf("%+v", s)
	}
}

func TestSummarizeKeepsOrder(t *testing.T) {
	values := []float64{3, 1, 2}
	telemetry.Summarize(values)
	if values[0] != 3 || values[1] != 1 {
		t.Errorf("%v", values)
	}
}

func TestBands(t *testing.T) {
	var latencies, rates []float64
	for i := range 100 {
		latencies = append(latencies, float64(200-i))
		rates = append(rates, 32000/float64(200-i))
	}
	bands := Bands(latencies, rates)
	counts := []int{50, 25, 15, 10}
	if len(bands) != len(counts) {
		t.Fatalf("%d bands", len(bands))
	}
	for i, b := range bands {
		if b.Rates.N != counts[i] {
			t.Errorf("band %s holds %d, want %d", b.Name, b.Rates.N, counts[i])
		}
	}
	if bands[0].Rates.Min <= bands[1].Rates.Max {
		t.Errorf("bands overlap: %+v, %+v", bands[0], bands[1])
	}
	// Equal latencies: none is below P50, all are in the last band.
	if bands := Bands([]float64{7, 7, 7}, []float64{1, 1, 1}); len(bands) != 1 || bands[0].Name != "P90+" || bands[0].Rates.N != 3 {
		t.Errorf("%+v", bands)
	}
}

// The interval contains the true value about as often as it claims, and is about as
// wide as the normal distribution predicts.
func TestIntervalCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	const trials, n = 40, 12
	held, heldRatio, heldPaired, width := 0, 0, 0, 0.0
	for range trials {
		a, b, scaled := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range a {
			a[i] = 100 + 5*random.NormFloat64()
			b[i] = 110 + 5*random.NormFloat64()
			scaled[i] = 1.1 * a[i]
		}
		mean := MeanInterval(a)
		width += (mean.High - mean.Low) / trials
		held += in(mean, 100)
		heldRatio += in(RatioInterval(a, b), 1.1)
		paired := PairedRatioInterval(a, scaled)
		heldPaired += in(Interval{paired.Low - 1e-9, paired.High + 1e-9}, 1.1)
	}
	if held < trials*85/100 || heldRatio < trials*85/100 {
		t.Errorf("the intervals held the truth %d and %d times of %d", held, heldRatio, trials)
	}
	if want := 2 * 1.96 * 5 / math.Sqrt(n); width < 0.8*want || width > 1.1*want {
		t.Errorf("the interval is %v wide, want about %v", width, want)
	}
	if heldPaired != trials {
		t.Errorf("paired: noise that both share does not cancel out: %d of %d", heldPaired, trials)
	}
}

func in(i Interval, x float64) int {
	if i.Low <= x && x <= i.High {
		return 1
	}
	return 0
}

func TestIntervalNeedsRuns(t *testing.T) {
	for _, i := range []Interval{
		MeanInterval(nil), MeanInterval([]float64{1}), RatioInterval([]float64{1}, []float64{1, 2}),
		PairedRatioInterval([]float64{1}, []float64{1}), PairedRatioInterval([]float64{1, 2}, []float64{1}),
	} {
		if !math.IsNaN(i.Low) || !math.IsNaN(i.High) {
			t.Errorf("%+v", i)
		}
	}
	if a, b := MeanInterval([]float64{1, 2, 4}), MeanInterval([]float64{1, 2, 4}); a != b || a.Low >= a.High {
		t.Errorf("%+v and %+v", a, b)
	}
}
