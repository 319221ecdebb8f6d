package measures

import (
	"math"
	"testing"
)

func TestKendallTau(t *testing.T) {
	for _, test := range []struct {
		a, b []float64
		want float64 // NaN if it is not defined
	}{
		{[]float64{1, 2, 3}, []float64{10, 20, 30}, 1},
		{[]float64{1, 2, 3}, []float64{3, 2, 1}, -1},
		{[]float64{1, 2, 3}, []float64{1, 3, 2}, 1.0 / 3},
		{[]float64{1, 1, 2}, []float64{1, 2, 3}, 2 / math.Sqrt(6)},
		{[]float64{1, 1, 1}, []float64{1, 2, 3}, math.NaN()},
		{nil, nil, math.NaN()},
	} {
		tau, ok := KendallTau(test.a, test.b)
		if ok == math.IsNaN(test.want) || ok && math.Abs(tau-test.want) > 1e-12 {
			t.Errorf("tau of %v and %v is %v, %v, want %v", test.a, test.b, tau, ok, test.want)
		}
	}
}
