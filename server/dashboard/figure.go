package dashboard

import "math"

// rounded has as many decimals as anybody reads.
func rounded(x float64) float64 { return math.Round(x*1000) / 1000 }

// figure is a number that was measured.
func figure(x float64) *float64 {
	x = rounded(x)
	return &x
}

// known rounds a figure that may be nil.
func known(x *float64) *float64 {
	if x == nil {
		return nil
	}
	return figure(*x)
}

// ratio is nil of nothing.
func ratio(sum, n float64) *float64 {
	if n <= 0 {
		return nil
	}
	return figure(sum / n)
}
