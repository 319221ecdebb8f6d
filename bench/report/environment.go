package report

import (
	"fmt"

	"github.com/mlxrank/mlxrank/bench/results"
)

func (d *document) environment() {
	d.paragraph("## Environment")
	e := d.result.Environment
	t := table{header: []string{"Property", "Value"}}
	t.add("Chip", orDash(e.Chip))
	t.add("Cores", fmt.Sprint(e.Cores))
	t.add("Memory", fmt.Sprintf("%.1f GiB", float64(e.Memory)/(1<<30)))
	t.add("OS", orDash(e.OS))
	t.add("Power source", orDash(e.Power))
	t.add("mlxrank", orDash(e.Program))
	t.add("Go", orDash(e.Go))
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
	t.add("MLX", of(func(e *results.Engine) string { return e.MLX }))
	t.add("mlx-c", of(func(e *results.Engine) string { return e.MLXC }))
	t.add("libmlxrank ABI", of(func(e *results.Engine) string { return fmt.Sprint(e.Shim) }))
	t.add("BLAS", of(func(e *results.Engine) string { return e.BLAS }))
	t.add("Device", of(func(e *results.Engine) string { return e.Device + " (" + orDash(e.DeviceName) + ")" }))
	t.add("Kernels", of(func(e *results.Engine) string { return e.Kernels }))
	t.add("dtype", of(func(e *results.Engine) string { return e.DType }))
	t.add("Maximum length", of(func(e *results.Engine) string { return fmt.Sprintf("%d tokens", e.MaxLength) }))
	t.add("Model SHA-256", of(func(e *results.Engine) string { return e.ModelSHA256 }))
	t.add("Workload", of(func(e *results.Engine) string {
		return fmt.Sprintf("%s, %d pairs (%d truncated), SHA-256 %.16s", e.Workload, e.WorkloadPairs, e.Truncated, e.WorkloadSHA256)
	}))
	d.table(&t)
	d.tokenLengths()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

const lengthBin = 32

// tokenLengths is a histogram of the pairs' tokens, of the first point that has
// one: another maximum length cuts it off elsewhere.
func (d *document) tokenLengths() {
	for _, p := range d.result.Points {
		if p.Engine == nil || len(p.Engine.TokenLengths) == 0 {
			continue
		}
		d.paragraph("### Token Lengths")
		t := table{header: []string{"Tokens", "Pairs", "Share (%)"}}
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
			t.add(fmt.Sprintf("%d-%d", from, from+lengthBin-1), fmt.Sprint(n), decimals(100*float64(n)/float64(pairs), 1))
		}
		d.table(&t)
		d.paragraph("**Mean:** %s tokens", decimals(float64(tokens)/float64(pairs), 1))
		return
	}
}
