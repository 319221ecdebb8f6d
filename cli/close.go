package cli

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
)

// closeEngine frees the engine. After an interrupt it does not wait for the
// batches on the device, which can take seconds and serve nobody: the process
// is about to end.
func closeEngine(ctx context.Context, e *engine.Engine, log zerolog.Logger) error {
	if ctx.Err() == nil {
		return e.Close()
	}
	go func() {
		if err := e.Close(); err != nil {
			log.Warn().Err(err).Msg("close after an interrupt")
		}
	}()
	return nil
}
