package tune

import (
	"context"
	"slices"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// The time that the parts of a run take. A run takes longer only if the least rounds do.
const (
	budget      = 90 * time.Second
	dtypeBudget = 60 * time.Second // of it
	mostRounds  = 8
	leastRounds = 3
)

// A configuration is a combination of settings, and what was measured of it.
type configuration struct {
	settings settings
	process  *process // nil while none runs
	opened   answer
	baseline bool // float32 with the default settings
	standard bool // number of threads and size of microbatches are the defaults

	logits  [][]float32 // by query
	speeds  []float64   // pairs/s, by round
	times   []float64   // ms of one query, in all rounds
	peak    uint64
	gpuPeak int64
	slow    int    // if not 0: too slow to be chosen, so that so many pairs are enough
	left    string // why it left before the last round
	quality quality
}

// memory returns the peak in bytes. On a GPU that may count some of it twice.
func (c *configuration) memory() uint64 { return c.peak + uint64(c.gpuPeak) }

// speed returns the median of the rounds.
func (c *configuration) speed() float64 { return median(c.speeds) }

func median(list []float64) float64 { return telemetry.Summarize(list).P50 }

// A tuning is a run of tune.
type tuning struct {
	texts                     *texts
	stored                    engine.DType // of small weights, which is the default then
	bar                       *progress.Bar
	start                     time.Time
	all                       []*configuration
	failed                    []failure
	keep                      bool // workers live until the end of a part; else only for their turn
	done                      int  // pairs scored
	scoredPairs, scoredTokens int
	pairs                     int // of a round
	latencies                 int // queries of a round that are scored alone
	queries                   int // of a round that are scored together
}

// A failure is a dtype that the device does not offer.
type failure struct {
	DType  engine.DType `json:"dtype"`
	Reason string       `json:"reason"`
}

// open starts the worker of a configuration if none runs, and warms it up.
func (t *tuning) open(ctx context.Context, c *configuration) error {
	if c.process != nil {
		return nil
	}
	var err error
	if c.process, c.opened, err = startProcess(ctx, c.settings); err != nil {
		return err
	}
	_, err = t.score(ctx, c, t.texts.queries[0][:min(2, len(t.texts.queries[0]))])
	return err
}

// score scores pairs in one request.
func (t *tuning) score(ctx context.Context, c *configuration, pairs []engine.Pair) (answer, error) {
	a, err := c.process.call(ctx, job{pairs})
	if err != nil {
		return a, err
	}
	c.peak, c.gpuPeak = max(c.peak, a.Peak), max(c.gpuPeak, a.GPUPeak)
	t.done += len(pairs)
	t.scoredPairs, t.scoredTokens = t.scoredPairs+len(pairs), t.scoredTokens+a.Scored
	t.bar.Set(t.done, max(t.pairs, t.done+1))
	return a, nil
}

// close ends the worker of a configuration.
func (c *configuration) close() {
	if c.process != nil {
		c.process.end()
		c.process = nil
	}
}

// closeAll ends all workers.
func (t *tuning) closeAll() {
	for _, c := range t.all {
		c.close()
	}
}

// round measures a configuration once: queries together, then some alone.
func (t *tuning) round(ctx context.Context, c *configuration, r int) error {
	if err := t.open(ctx, c); err != nil {
		return err
	}
	if !t.keep {
		defer c.close()
	}
	queries, latencies := t.queries, t.latencies
	if c.slow > 0 {
		queries, latencies = 1, 0
	}
	from := r * queries % len(t.texts.queries)
	list := t.texts.queries[from:min(from+queries, len(t.texts.queries))]
	pairs := slices.Concat(list...)
	if c.slow > 0 {
		pairs = pairs[:min(c.slow, len(pairs))]
	}
	a, err := t.score(ctx, c, pairs)
	if err != nil {
		return err
	}
	c.speeds = append(c.speeds, float64(len(a.Logits))/a.MS*1000)
	if len(list) == 1 && len(pairs) == len(list[0]) {
		c.times = append(c.times, a.MS)
	}
	logits := a.Logits
	for i, q := range list {
		if from+i == len(c.logits) {
			c.logits = append(c.logits, logits[:min(len(q), len(logits))])
		}
		logits = logits[min(len(q), len(logits)):]
	}
	for i := range latencies {
		a, err := t.score(ctx, c, t.texts.queries[(from+i)%len(t.texts.queries)])
		if err != nil {
			return err
		}
		c.times = append(c.times, a.MS)
	}
	return nil
}

// rounds measures configurations in interleaved rounds until the time is over. Those
// that are too slow to be chosen leave after a round.
func (t *tuning) rounds(ctx context.Context, list []*configuration, until time.Duration) error {
	count, err := t.plan(ctx, list, until-time.Since(t.start))
	if err != nil {
		return err
	}
	for r := range count {
		for i := range list {
			c := list[(r+i)%len(list)] // no configuration is always the first
			if c.left != "" {
				continue
			}
			if err := t.round(ctx, c, r); err != nil {
				return err
			}
		}
		if r+1 < count {
			dropSlow(list)
		}
		if r+1 >= leastRounds && time.Since(t.start) > until {
			break
		}
	}
	return nil
}

// tooSlow is how many times slower than the fastest a configuration must be to leave. It
// has one round, of a query or the part of it that takes slowTime.
const (
	tooSlow    = 3
	slowTime   = 8000 // ms
	leastPairs = 5
)

func dropSlow(list []*configuration) {
	fastest := 0.0
	for _, c := range list {
		fastest = max(fastest, c.speed())
	}
	for _, c := range list {
		if ratio := fastest / c.speed(); ratio > tooSlow && !c.baseline && c.left == "" {
			c.left = "left early: " + times(ratio) + " slower than the fastest"
			c.close()
		}
	}
}

// plan decides how many queries a round has and how many rounds fit into the time. It
// opens all workers and scores a few pairs with each for an estimate.
func (t *tuning) plan(ctx context.Context, list []*configuration, time time.Duration) (rounds int, err error) {
	perPair, fastest := 0.0, 0.0
	costs := make([]float64, len(list))
	for i, c := range list {
		if err := t.open(ctx, c); err != nil {
			return 0, err
		}
		pairs := t.texts.queries[0][:min(4, len(t.texts.queries[0]))]
		a, err := t.score(ctx, c, pairs)
		if err != nil {
			return 0, err
		}
		if !t.keep {
			c.close()
		}
		costs[i] = a.MS / float64(len(pairs))
		if fastest == 0 || costs[i] < fastest {
			fastest = costs[i]
		}
	}
	each := 0
	for _, q := range t.texts.queries {
		each = max(each, len(q))
	}
	left := telemetry.Milliseconds(time)
	for i, cost := range costs {
		if list[i].slow = 0; cost > tooSlow*fastest && !list[i].baseline {
			list[i].slow = min(max(leastPairs, int(slowTime/cost)), each)
			left -= cost * float64(list[i].slow)
		} else {
			perPair += cost
		}
	}
	for _, size := range []struct{ queries, latencies, least int }{{4, 2, leastRounds}, {2, 1, leastRounds}, {1, 1, leastRounds}, {1, 0, 0}} {
		t.queries, t.latencies = min(size.queries, len(t.texts.queries)), size.latencies
		pairs := float64((t.queries + t.latencies) * each)
		rounds = int(left / (perPair * pairs))
		if rounds >= size.least {
			break
		}
	}
	rounds = min(max(rounds, leastRounds), mostRounds, max(leastRounds, len(t.texts.queries)/t.queries))
	t.pairs = t.done + rounds*len(list)*(t.queries+t.latencies)*each
	return rounds, nil
}
