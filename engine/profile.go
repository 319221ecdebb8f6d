package engine

import (
	"errors"

	"github.com/mlxrank/mlxrank/mlx"
)

// Profile reads where the time of the native pass went since the engine opened its
// session. Stats.Reopened counts sessions. Config.Profile must be set.
func (e *Engine) Profile() (mlx.Profile, error) {
	e.pipeline.mu.Lock()
	session, ok := e.pipeline.device.session.(*mlx.Session)
	e.pipeline.mu.Unlock()
	if !ok || !e.profiled {
		return mlx.Profile{}, errors.New("engine: opened without a profile; set Config.Profile")
	}
	return session.Profile()
}
