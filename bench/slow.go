package bench

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine/system"
)

// slowGauges read what takes the machine long, such as macOS's figures of the
// GPU, on a goroutine of their own and never more often than every 500 ms: it
// would slow down what is measured.
type slowGauges struct {
	sampler *system.Sampler
	log     zerolog.Logger
	cancel  context.CancelFunc
	done    chan struct{}

	mu     sync.Mutex
	sample system.Sample
}

func newSlowGauges(log zerolog.Logger) (*slowGauges, error) {
	sampler, err := system.New()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &slowGauges{sampler: sampler, log: log, cancel: cancel, done: make(chan struct{})}
	g.read(ctx)
	go g.watch(ctx)
	return g, nil
}

func (g *slowGauges) watch(ctx context.Context) {
	defer close(g.done)
	ticker := time.NewTicker(sampleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			g.read(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (g *slowGauges) read(ctx context.Context) {
	sample, err := g.sampler.Sample(ctx)
	if err != nil && ctx.Err() == nil {
		g.log.Debug().Err(err).Msg("figures of the machine")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sample = sample
}

// last are the figures read last.
func (g *slowGauges) last() (processMemoryMB, gpuUtilizationPct *float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sample.FootprintMB, g.sample.GPUUtilizationPct
}

func (g *slowGauges) close() {
	g.cancel()
	<-g.done
}
