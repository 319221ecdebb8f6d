package engine

import (
	"errors"

	"github.com/mlxrank/mlxrank/mlx"
)

// Profile reads where the time of the native pass went since the engine was
// opened, or since its session was opened anew (Stats counts that). The
// configuration must ask for a profile.
func (e *Engine) Profile() (mlx.Profile, error) {
	e.pipeline.mu.Lock()
	session, ok := e.pipeline.device.session.(*mlx.Session)
	e.pipeline.mu.Unlock()
	if !ok || !e.profiled {
		return mlx.Profile{}, errors.New("engine: it was opened without a profile")
	}
	return session.Profile()
}
