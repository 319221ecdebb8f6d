package measures

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

const (
	resamples = 10_000  // of the bootstrap
	flips     = 100_000 // of signs, where there are too many to try all
	maxExact  = 16      // queries up to which all signs are tried
)

// An Interval is a 95 % confidence interval.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// A Comparison says how one measure differs between two rankings of the same queries.
type Comparison struct {
	// Difference is the mean over queries of the second value minus the first.
	Difference float64 `json:"difference"`

	// Interval is the percentile bootstrap's, over queries; nil for fewer than two.
	Interval *Interval `json:"interval,omitempty"`

	// Randomization is the two-sided p-value of the paired randomization test, which
	// assumes no distribution: the share of random exchanges of the two rankings, query by
	// query, that make the difference at least as large. It is exact for few queries.
	Randomization float64 `json:"p_randomization"`

	// TTest is the two-sided p-value of Student's paired t-test; 1 for fewer than two
	// queries and where no query differs.
	TTest float64 `json:"p_t_test"`

	Won   int `json:"won"` // queries where the second value is higher
	Lost  int `json:"lost"`
	Equal int `json:"equal"`
}

// Compare compares values of the same queries, in the same order. Its random numbers are
// always the same, so that it is repeatable.
func Compare(before, after []float64) (Comparison, error) {
	if len(before) != len(after) || len(before) == 0 {
		return Comparison{}, fmt.Errorf("cannot compare %d values with %d: both need one value for each query", len(before), len(after))
	}
	differences := make([]float64, len(before))
	var c Comparison
	for i := range before {
		d := after[i] - before[i]
		if math.IsNaN(d) || math.IsInf(d, 0) {
			return Comparison{}, fmt.Errorf("cannot compare %v with %v: values must be finite", before[i], after[i])
		}
		differences[i] = d
		c.count(d)
	}
	c.Difference = stat.Mean(differences, nil)
	c.Interval = bootstrap(differences)
	c.Randomization = randomization(differences)
	c.TTest = tTest(differences)
	return c, nil
}

// equal is the difference up to which rounding may explain it.
const equal = 1e-12

func (c *Comparison) count(difference float64) {
	switch {
	case difference > equal:
		c.Won++
	case difference < -equal:
		c.Lost++
	default:
		c.Equal++
	}
}

// bootstrap returns the interval of the mean, from resampling queries with replacement.
func bootstrap(differences []float64) *Interval {
	n := len(differences)
	if n < 2 {
		return nil
	}
	random := rand.New(rand.NewPCG(1, 2))
	means := make([]float64, resamples)
	for i := range means {
		sum := 0.0
		for range n {
			sum += differences[random.IntN(n)]
		}
		means[i] = sum / float64(n)
	}
	return &Interval{telemetry.Percentile(means, 2.5), telemetry.Percentile(means, 97.5)}
}

// randomization returns the p-value of the sign-flip test of a mean of 0.
func randomization(differences []float64) float64 {
	var nonzero []float64 // zeros change no sum, whatever their sign
	sum, size := 0.0, 0.0
	for _, d := range differences {
		if math.Abs(d) > equal {
			nonzero = append(nonzero, d)
			sum += d
			size += math.Abs(d)
		}
	}
	reached := math.Abs(sum) - 1e-12*size // the same sum in another order rounds differently
	if len(nonzero) <= maxExact {
		extreme := 0
		for signs := range uint64(1) << len(nonzero) {
			if math.Abs(flip(signs, sum, nonzero)) >= reached {
				extreme++
			}
		}
		return float64(extreme) / float64(uint64(1)<<len(nonzero))
	}
	random := rand.New(rand.NewPCG(3, 4))
	groups := signedSums(nonzero)
	extreme := 1 // the order that was observed is one of the random ones
	for range flips {
		flipped, signs := 0.0, uint64(0)
		for i := range groups {
			if i%8 == 0 {
				signs = random.Uint64()
			}
			flipped += groups[i][signs&0xff]
			signs >>= 8
		}
		if math.Abs(flipped) >= reached {
			extreme++
		}
	}
	return float64(extreme) / (flips + 1)
}

// signedSums returns, for each group of 8 differences, their sum with each choice of
// signs: bit i of the index changes the sign of the i-th.
func signedSums(differences []float64) [][256]float64 {
	var groups [][256]float64
	for group := range slices.Chunk(differences, 8) {
		var sums [256]float64
		all := 0.0
		for _, d := range group {
			all += d
		}
		for signs := range sums {
			sums[signs] = flip(uint64(signs), all, group)
		}
		groups = append(groups, sums)
	}
	return groups
}

// flip returns a sum of differences after changing the signs of some that are in it.
func flip(signs uint64, sum float64, differences []float64) float64 {
	for i, d := range differences {
		if signs>>i&1 == 1 {
			sum -= 2 * d
		}
	}
	return sum
}

// tTest returns the p-value of Student's t-test of a mean of 0.
func tTest(differences []float64) float64 {
	n := float64(len(differences))
	if n < 2 {
		return 1
	}
	mean, deviation := stat.MeanStdDev(differences, nil)
	if deviation == 0 {
		if mean == 0 {
			return 1
		}
		return 0
	}
	t := mean / (deviation / math.Sqrt(n))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Survival(math.Abs(t))
}
