package output

import (
	"cmp"
	"fmt"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// Bytes formats a number of bytes with a decimal unit.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value := float64(n)
	for _, unit := range []string{"kB", "MB", "GB"} {
		if value /= 1000; value < 999.95 {
			return fmt.Sprintf("%.1f %s", value, unit)
		}
	}
	return fmt.Sprintf("%.1f TB", value/1000)
}

// Kernels describes the kernels of an engine: MLX's or mlxrank's.
func Kernels(kernels string) string {
	if kernels == "MLX" {
		return "MLX's operations"
	}
	return "mlxrank's kernels for " + kernels
}

// Graph describes what computes: the kernels, the variant of the unfused graph, and
// whether MLX uses the matrix units.
func Graph(i telemetry.Info) string {
	text := Kernels(i.Kernels)
	if i.Variant != "" {
		text += ", variant " + i.Variant
	}
	if i.NAX {
		text += ", NAX"
	}
	return text
}

// percent returns part as a percentage of whole, or 0 if both are 0.
func percent(part, whole float64) float64 { return 100 * part / cmp.Or(whole, 1) }

// Count returns n and the singular or plural noun.
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
