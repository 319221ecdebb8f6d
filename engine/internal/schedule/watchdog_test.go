package schedule

import (
	"testing"
	"time"
)

// Assumed costs do not end a batch that has far more work than any before.
func TestWatchBeyondTheMeasured(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	s := New(Config{Layout: someLayouts[0], Costs: AssumedCosts(), Limits: Limits{Pairs: 8, Tokens: 512}, Assumed: true}, at)
	s.pace.add(1e9, 1e9, 0)
	s.mostWork = 1e6
	for work, want := range map[float64]time.Duration{3e6: leastPatience, 1e8: firstPatience} {
		if got := s.watch(1, work, at).Overdue.Sub(at); got != want {
			t.Errorf("work %g is overdue after %v, want %v", work, got, want)
		}
	}
}
