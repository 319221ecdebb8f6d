//go:build !darwin

package doctor

import (
	"context"

	"github.com/mlxrank/mlxrank/mlx"
)

// checkSignatures has nothing to check: only macOS signs programs.
func checkSignatures(context.Context, mlx.Info) []check { return nil }
