package bench

import (
	"context"
	"sync"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// slowGauges read the machine's figures, which takes long on macOS. They do so on
// a goroutine of their own and at most every 500 ms, so as not to slow down what
// is measured.
type slowGauges struct {
	read  telemetry.MachineReader
	log   zerolog.Logger
	close func()

	mu      sync.Mutex
	machine telemetry.Machine
}

func newSlowGauges(e *engine.Engine, log zerolog.Logger) (*slowGauges, error) {
	read, err := telemetry.NewMachineReader(e.Memory)
	if err != nil {
		return nil, err
	}
	g := &slowGauges{read: read, log: log}
	g.update(context.Background())
	g.close = repeat(sampleEvery, g.update)
	return g, nil
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
