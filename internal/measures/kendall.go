package measures

import (
	"cmp"
	"math"
)

// KendallTau returns Kendall's tau-b of two lists of scores of the same documents. It
// is not defined if all scores of a list are equal.
func KendallTau(a, b []float64) (tau float64, ok bool) {
	var sum, pairsA, pairsB float64
	for i := range a {
		for j := range i {
			x, y := cmp.Compare(a[i], a[j]), cmp.Compare(b[i], b[j])
			sum += float64(x * y)
			pairsA += float64(x * x)
			pairsB += float64(y * y)
		}
	}
	if pairsA == 0 || pairsB == 0 {
		return 0, false
	}
	return sum / math.Sqrt(pairsA*pairsB), true
}
