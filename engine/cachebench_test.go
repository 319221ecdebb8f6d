package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cache"
)

// processorTime returns the CPU time of this process.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func benchCache(b *testing.B, dir string) Cache {
	b.Helper()
	c, err := cache.Open(cache.Config{MemoryBytes: 64 << 20, Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return c
}

// benchPairs returns 20 pairs that no other call returns.
func benchPairs(r *rand.Rand, n int) []Pair {
	pairs := randomPairs(r, 20)
	for i := range pairs {
		pairs[i].Document += fmt.Sprint(" ", n*20+i)
	}
	return pairs
}

// BenchmarkCacheMiss compares requests of 20 pairs of a tiny model with and without a
// cache that lacks them. Both engines alternate, in changing order, so that noise on the
// machine affects both equally. The cost is the median of the differences in time and in
// CPU time, as a share of the median without a cache.
func BenchmarkCacheMiss(b *testing.B) {
	for name, dir := range map[string]string{"memory": "", "disk": b.TempDir()} {
		b.Run(name, func(b *testing.B) {
			engines := []*Engine{openTinyEngine(b, Config{}), openTinyEngine(b, Config{Cache: benchCache(b, dir)})}
			r := rand.New(rand.NewPCG(1, 2))
			var plain, plainCPU, more, moreCPU []float64
			for n := 0; b.Loop(); n++ {
				pairs := benchPairs(r, n)
				var took, cpu [2]float64
				for _, k := range []int{n % 2, 1 - n%2} {
					start, before := time.Now(), processorTime(b)
					scorePairs(b, engines[k], pairs)
					took[k], cpu[k] = time.Since(start).Seconds()*1e6, (processorTime(b)-before).Seconds()*1e6
				}
				plain, plainCPU = append(plain, took[0]), append(plainCPU, cpu[0])
				more, moreCPU = append(more, took[1]-took[0]), append(moreCPU, cpu[1]-cpu[0])
			}
			b.ReportMetric(median(plain), "plain-us")
			b.ReportMetric(100*median(more)/median(plain), "cost-%")
			b.ReportMetric(median(plainCPU), "plain-cpu-us")
			b.ReportMetric(100*median(moreCPU)/median(plainCPU), "cpu-cost-%")
		})
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkCacheHit measures requests of 20 pairs that the cache has; cpu-us/op is CPU
// time of the process.
func BenchmarkCacheHit(b *testing.B) {
	e := openTinyEngine(b, Config{Cache: benchCache(b, "")})
	pairs := benchPairs(rand.New(rand.NewPCG(1, 2)), 0)
	scorePairs(b, e, pairs)
	before := processorTime(b)
	for b.Loop() {
		scorePairs(b, e, pairs)
	}
	b.ReportMetric((processorTime(b)-before).Seconds()*1e6/float64(b.N), "cpu-us/op")
}
