package doctor

import (
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/sys/cpu"

	"github.com/mlxrank/mlxrank/cli/internal/output"
)

// checkProcessor names the instruction sets that matter to MLX's CPU backend.
func checkProcessor() check {
	sets := instructionSets()
	c := check{name: "processor", text: fmt.Sprintf("%s, %s", runtime.GOARCH, output.Count(runtime.NumCPU(), "core", "cores"))}
	if len(sets) > 0 {
		c.text += ", with " + strings.Join(sets, ", ")
	}
	if runtime.GOARCH == "amd64" && !cpu.X86.HasAVX2 {
		c.detail = []string{"without AVX2: expect a fraction of the usual speed on the CPU"}
	}
	return c
}

func instructionSets() []string {
	var sets []string
	for _, set := range []struct {
		name  string
		found bool
	}{
		{"AVX2", cpu.X86.HasAVX2}, {"FMA", cpu.X86.HasFMA},
		{"AVX-512", cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL},
		{"AVX-512 BF16", cpu.X86.HasAVX512BF16}, {"AMX BF16", cpu.X86.HasAMXBF16},
		{"NEON", cpu.ARM64.HasASIMD}, {"half-precision NEON", cpu.ARM64.HasASIMDHP},
	} {
		if set.found {
			sets = append(sets, set.name)
		}
	}
	return sets
}
