package engine

import (
	"sort"

	"github.com/mlxrank/mlxrank/mlx"
)

// limits bound a batch.
type limits struct {
	pairs  int
	tokens int
}

// limitsOf keeps a CPU's batches to about a second of work, which is as long
// as a cancelled request can hold the device; a GPU is given more at once.
func limitsOf(d mlx.Device) limits {
	if d == mlx.GPU {
		return limits{pairs: 256, tokens: 16384}
	}
	return limits{pairs: 256, tokens: 2048}
}

// plan cuts pairs of the given lengths into batches: lists of places, like
// lengths together and the longest first, so that the most memory is needed at
// once. A pair longer than the token limit is a batch of its own.
func plan(lengths []int, l limits) [][]int {
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return lengths[order[a]] > lengths[order[b]] })
	var batches [][]int
	tokens := 0
	for _, at := range order {
		last := len(batches) - 1
		if last < 0 || len(batches[last]) == l.pairs || tokens+lengths[at] > l.tokens {
			batches = append(batches, nil)
			last++
			tokens = 0
		}
		batches[last] = append(batches[last], at)
		tokens += lengths[at]
	}
	return batches
}
