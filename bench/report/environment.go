package report

import (
	"cmp"
	"fmt"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

func (d *document) environment() {
	d.paragraph("## Environment")
	e := d.result.Environment
	t := telemetry.Table{Header: []string{"Property", "Value"}}
	t.Add("Chip", orDash(e.Chip))
	t.Add("Cores", fmt.Sprint(e.Cores))
	t.Add("Memory", fmt.Sprintf("%.1f GiB", float64(e.Memory)/(1<<30)))
	t.Add("OS", orDash(e.OS))
	t.Add("Power source", orDash(e.Power))
	t.Add("mlxrank", orDash(e.Program))
	t.Add("Go", orDash(e.Go))
	if e.Server != nil {
		d.serverRows(&t, e.Server)
		d.table(&t)
		return
	}
	of := func(value func(*results.Engine) string) string {
		return d.each(func(p results.Point) string {
			if p.Engine == nil {
				return "-"
			}
			return orDash(value(p.Engine))
		})
	}
	t.Add("MLX", of(func(e *results.Engine) string { return e.MLX }))
	t.Add("mlx-c", of(func(e *results.Engine) string { return e.MLXC }))
	t.Add("libmlxrank ABI", of(func(e *results.Engine) string { return fmt.Sprint(e.Shim) }))
	t.Add("BLAS", of(func(e *results.Engine) string { return e.BLAS }))
	t.Add("Device", of(func(e *results.Engine) string { return e.Device + " (" + orDash(e.DeviceName) + ")" }))
	t.Add("Kernels", of(func(e *results.Engine) string { return e.Kernels }))
	t.Add("Variant of the graph", of(func(e *results.Engine) string { return e.Variant }))
	t.Add("Kernel launches of a pass", of(func(e *results.Engine) string {
		if n := launches[e.Variant]; e.Model == "builtin" && e.Device == "gpu" && n > 0 {
			return fmt.Sprint(n)
		}
		return "-"
	}))
	t.Add("NAX kernels", of(func(e *results.Engine) string {
		if e.Build == "" {
			return "-" // not macOS
		}
		return fmt.Sprintf("%s (build %s)", map[bool]string{true: "yes", false: "no"}[e.NAX], e.Build)
	}))
	t.Add("dtype", of(func(e *results.Engine) string { return e.DType }))
	t.Add("Maximum length", of(func(e *results.Engine) string { return fmt.Sprintf("%d tokens", e.MaxLength) }))
	t.Add("Model SHA-256", of(func(e *results.Engine) string { return e.ModelSHA256 }))
	t.Add("Workload", of(func(e *results.Engine) string {
		return fmt.Sprintf("%s, %d pairs (%d truncated), SHA-256 %.16s", e.Workload, e.WorkloadPairs, e.Truncated, e.WorkloadSHA256)
	}))
	d.table(&t)
	d.tokenLengths()
}

// launches has the kernel launches of a pass of 20 pairs of 128 tokens of the builtin
// model, by variant. native/test/launches.cpp counts them in docs/dev/metal.md.
var launches = map[string]int{"reference": 130, "qpad": 119, "kernels": 95, "qpad-kernels": 84, "packed": 64}

func orDash(s string) string { return cmp.Or(s, "-") }

const lengthBin = 32

// tokenLengths writes a histogram of tokens per pair for the first point that has
// one. Points with another maximum length differ in its end only.
func (d *document) tokenLengths() {
	for _, p := range d.result.Points {
		if p.Engine == nil || len(p.Engine.TokenLengths) == 0 {
			continue
		}
		d.paragraph("### Token Lengths")
		t := telemetry.Table{Header: []string{"Tokens", "Pairs", "Share (%)"}}
		pairs, tokens := 0, 0
		for length, n := range p.Engine.TokenLengths {
			pairs += n
			tokens += n * length
		}
		for from := 1; from < len(p.Engine.TokenLengths); from += lengthBin {
			to := min(from+lengthBin, len(p.Engine.TokenLengths))
			n := 0
			for _, count := range p.Engine.TokenLengths[from:to] {
				n += count
			}
			t.Add(fmt.Sprintf("%d-%d", from, from+lengthBin-1), fmt.Sprint(n), telemetry.Decimals(100*float64(n)/float64(pairs), 1))
		}
		d.table(&t)
		d.paragraph("**Mean:** %s tokens", telemetry.Decimals(float64(tokens)/float64(pairs), 1))
		return
	}
}
