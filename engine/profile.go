package engine

import (
	"errors"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/mlx"
)

// Profile returns where the time of the native pass went since the engine was
// opened, or since its session was reopened (Stats counts that). It needs
// lab.Options.Profile.
func (e *Engine) Profile(lab.Key) (mlx.Profile, error) {
	e.pipeline.mu.Lock()
	session, ok := e.pipeline.device.session.(*mlx.Session)
	e.pipeline.mu.Unlock()
	if !ok || !e.profiled {
		return mlx.Profile{}, errors.New("engine: opened without a profile; set Config.Profile")
	}
	return session.Profile()
}
