package tune

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/engine"
)

const (
	// near is how much faster a configuration must be than another to be chosen in its
	// place. It must also be faster than the default in each round.
	near = 1.03
	// nearLarge takes near's place if the configuration takes more than twice the other's memory.
	nearLarge = 1.2
)

// clearlyLess is the share of another configuration's memory below which one takes
// clearly less.
const clearlyLess = 0.9

// margin returns how much faster c must be than other.
func margin(c, other *configuration) float64 {
	if c.memory() > 2*other.memory() {
		return nearLarge
	}
	return near
}

// rule describes how a configuration is chosen.
func (t *tuning) rule() string {
	standard := t.standard()
	name := string(standard.settings.DType)
	if t.isDefault(standard) {
		name += ", the default,"
	}
	return fmt.Sprintf("%s stays unless another within the bound is faster in each round and by %.0f %%, or by %.0f %% with more than twice the memory; of equally fast ones the smaller is chosen, then the more exact", name, 100*(near-1), 100*(nearLarge-1))
}

// times formats a ratio, as in "1.9 times".
func times(ratio float64) string { return fmt.Sprintf("%.2g times", ratio) }

// exactTimes formats a ratio near 1, as in "1.03 times".
func exactTimes(ratio float64) string { return fmt.Sprintf("%.3g times", ratio) }

// ratios returns how many times faster c is than base in each round that both have had
// since their given ones.
func ratios(c *configuration, from int, base *configuration, baseFrom int) []float64 {
	var list []float64
	for r := 0; from+r < len(c.speeds) && baseFrom+r < len(base.speeds); r++ {
		list = append(list, c.speeds[from+r]/base.speeds[baseFrom+r])
	}
	return list
}

// isFaster reports whether ratios show a configuration that is faster by a margin.
func isFaster(ratios []float64, margin float64) bool {
	return len(ratios) > 0 && median(ratios) >= margin && slices.Min(ratios) > 1
}

// pick returns the configuration to choose: of those within the bound that are clearly
// faster than base the fastest, or one that is nearly as fast, takes the least memory and
// comes first by preference. If there is none, it returns base.
func pick(list []*configuration, base *configuration, ratios func(*configuration) []float64, prefer func(a, b *configuration) int) *configuration {
	var sound []*configuration
	for _, c := range list {
		if c != base && c.quality.isWithinBound() && isFaster(ratios(c), margin(c, base)) {
			sound = append(sound, c)
		}
	}
	if len(sound) == 0 {
		return base
	}
	speed := func(c *configuration) float64 { return median(ratios(c)) }
	fastest := slices.MaxFunc(sound, func(a, b *configuration) int { return cmp.Compare(speed(a), speed(b)) })
	candidates := slices.DeleteFunc(sound, func(c *configuration) bool { return speed(c)*margin(fastest, c) < speed(fastest) })
	smallest := slices.MinFunc(candidates, func(a, b *configuration) int { return cmp.Compare(a.memory(), b.memory()) })
	candidates = slices.DeleteFunc(candidates, func(c *configuration) bool { return float64(smallest.memory()) < clearlyLess*float64(c.memory()) })
	return slices.MinFunc(candidates, prefer)
}

// pickDType chooses among dtypes with the default settings. Of two that are equally fast
// and large it prefers the more exact one.
func pickDType(list []*configuration, standard *configuration) *configuration {
	return pick(list, standard,
		func(c *configuration) []float64 { return ratios(c, 0, standard, 0) },
		func(a, b *configuration) int { return cmp.Compare(a.quality.Worst, b.quality.Worst) })
}

// pickSizes chooses numbers of threads and sizes of microbatches for the chosen dtype,
// whose rounds with the others began with the given one. It prefers fewer threads.
func pickSizes(list []*configuration, chosen *configuration, from int) *configuration {
	return pick(list, chosen,
		func(c *configuration) []float64 { return ratios(c, 0, chosen, from) },
		func(a, b *configuration) int {
			return cmp.Or(cmp.Compare(a.settings.Threads, b.settings.Threads), cmp.Compare(a.memory(), b.memory()))
		})
}

// reason explains a choice.
func (t *tuning) reason(chosen *configuration) string {
	var parts []string
	standard := t.standard()
	if chosen.settings.DType != standard.settings.DType {
		parts = append(parts, fmt.Sprintf("%s as fast as %s with the default settings, and within the bound", times(chosen.speed()/standard.speed()), standard.settings.DType))
	} else {
		parts = append(parts, "no dtype within the bound is clearly faster than "+string(standard.settings.DType))
	}
	if chosen.standard {
		parts = append(parts, "no other number of threads or size of microbatches is clearly faster")
	}
	for _, c := range t.all {
		if !c.standard || c.settings.DType == chosen.settings.DType || c.left != "" || len(c.speeds) == 0 || c.speed() <= chosen.speed() {
			continue
		}
		if loss := c.quality.loss(); loss != "" {
			parts = append(parts, fmt.Sprintf("%s is faster but %s", c.settings.DType, loss))
		} else if c.memory() > 2*chosen.memory() {
			parts = append(parts, fmt.Sprintf("%s is %s as fast but takes %s the memory", c.settings.DType, exactTimes(c.speed()/chosen.speed()), times(float64(c.memory())/float64(chosen.memory()))))
		}
	}
	return strings.Join(parts, "; ")
}

// loss describes the figures of a configuration that are out of the bound, "" if none is.
func (q *quality) loss() string {
	var parts []string
	switch {
	case q.isWithinBound():
	case q.NDCG != nil:
		parts = append(parts, fmt.Sprintf("loses %.4f of nDCG@10 (p %.3f)", -*q.Difference, *q.P))
	default:
		if q.Tau < leastTau {
			parts = append(parts, fmt.Sprintf("has tau %.4f", q.Tau))
		}
		if q.SameTop < leastSameTop {
			parts = append(parts, fmt.Sprintf("has %.1f %% of the first ten", 100*q.SameTop))
		}
		if q.Worst > mostWorst {
			parts = append(parts, fmt.Sprintf("has a score that is off by %.2g deviations", q.Worst))
		}
	}
	return strings.Join(parts, ", ")
}

// bound describes the bound.
func (t *texts) bound() string {
	if t.judged != nil {
		return fmt.Sprintf("nDCG@10 not lower than float32's by more than %.1f points or than chance explains (p %.2f)", 100*mostLost, leastP)
	}
	return fmt.Sprintf("compared with float32: Kendall's tau at least %.2f, %.0f %% of the first ten documents the same, no score off by more than %.1f deviations", leastTau, 100*leastSameTop, mostWorst)
}

// auto returns the dtype that the device has by default.
func auto(device string) engine.DType {
	if device == string(engine.GPU) {
		return engine.Float16
	}
	return engine.Float32
}
