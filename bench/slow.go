package bench

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// slowGauges read the machine's figures, which takes long on macOS. They do so on
// a goroutine of their own and at most every 500 ms, so as not to slow down what
// is measured.
type slowGauges struct {
	read   telemetry.MachineReader
	log    zerolog.Logger
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	machine telemetry.Machine
}

func newSlowGauges(e *engine.Engine, log zerolog.Logger) (*slowGauges, error) {
	read, err := telemetry.NewMachineReader(e.Memory)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &slowGauges{read: read, log: log, cancel: cancel, done: make(chan struct{})}
	g.update(ctx)
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
			g.update(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (g *slowGauges) update(ctx context.Context) {
	machine, err := g.read(ctx, true)
	if err != nil && ctx.Err() == nil {
		g.log.Debug().Err(err).Msg("figures of the machine")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.machine = machine
}

// last returns the latest figures.
func (g *slowGauges) last() telemetry.Machine {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.machine
}

func (g *slowGauges) close() {
	g.cancel()
	<-g.done
}
