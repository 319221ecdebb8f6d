package stats

import (
	"math"
	"math/rand/v2"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// An Interval is a 95 % confidence interval.
type Interval struct{ Low, High float64 }

// None stands for an unknown interval.
var None = Interval{math.NaN(), math.NaN()}

const replicates = 10_000

// MeanInterval returns the confidence interval of the mean by the percentile
// bootstrap, which resamples the values with replacement many times. It returns
// None for fewer than two values.
func MeanInterval(values []float64) Interval {
	if len(values) < 2 {
		return None
	}
	return bootstrap(func(random *rand.Rand) float64 {
		return drawMean(random, values)
	})
}

// RatioInterval returns the interval of mean(b)/mean(a) for independent
// measurements, which it resamples separately.
func RatioInterval(a, b []float64) Interval {
	if len(a) < 2 || len(b) < 2 {
		return None
	}
	return bootstrap(func(random *rand.Rand) float64 {
		return drawMean(random, b) / drawMean(random, a)
	})
}

// PairedRatioInterval returns the interval of mean(b)/mean(a) for alternating
// rounds. It resamples whole rounds, so that noise which affects both cancels out.
func PairedRatioInterval(a, b []float64) Interval {
	if len(a) < 2 || len(a) != len(b) {
		return None
	}
	return bootstrap(func(random *rand.Rand) float64 {
		var sumA, sumB float64
		for range a {
			i := random.IntN(len(a))
			sumA += a[i]
			sumB += b[i]
		}
		return sumB / sumA
	})
}

// bootstrap is repeatable: it always draws the same random numbers.
func bootstrap(draw func(*rand.Rand) float64) Interval {
	random := rand.New(rand.NewPCG(1, 2))
	drawn := make([]float64, replicates)
	for i := range drawn {
		drawn[i] = draw(random)
	}
	return Interval{telemetry.Percentile(drawn, 2.5), telemetry.Percentile(drawn, 97.5)}
}

func drawMean(random *rand.Rand, values []float64) float64 {
	sum := 0.0
	for range values {
		sum += values[random.IntN(len(values))]
	}
	return sum / float64(len(values))
}
