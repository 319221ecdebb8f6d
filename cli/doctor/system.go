package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/mlx"
)

// checkProcessor lists the instruction sets that matter to the CPU kernels.
func checkProcessor() check {
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
	c := check{name: "processor", text: fmt.Sprintf("%s, %s", runtime.GOARCH, output.Count(runtime.NumCPU(), "core", "cores"))}
	if len(sets) > 0 {
		c.text += ", with " + strings.Join(sets, ", ")
	}
	if runtime.GOARCH == "amd64" && !cpu.X86.HasAVX2 {
		c.detail = []string{"without AVX2 the CPU computes several times slower"}
	}
	return c
}

// checkSignatures verifies the signatures of the program and the libraries on macOS,
// which kills a process without a message if it maps code whose signature is broken.
// It also looks for Metal's kernels, which MLX expects next to libmlx. On other
// systems there is nothing to check.
func checkSignatures(ctx context.Context, info mlx.Info) []check {
	if runtime.GOOS != "darwin" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	paths := []string{info.Path, info.MLXPath}
	if exe, err := os.Executable(); err == nil {
		paths = append(paths, exe)
	}
	signature := check{name: "signature", text: "valid"}
	for _, path := range paths {
		out, err := exec.CommandContext(ctx, "/usr/bin/codesign", "--verify", "--strict", path).CombinedOutput()
		if err != nil {
			signature.text = "not valid: " + strings.TrimSpace(string(out))
			signature.remedy = "sign it again: codesign --force --sign - " + path
		}
	}
	kernels := check{name: "metallib", text: filepath.Join(filepath.Dir(info.MLXPath), "mlx.metallib")}
	if _, err := os.Stat(kernels.text); err != nil {
		kernels.text = err.Error()
		kernels.remedy = "run `make build`, which puts mlx.metallib next to libmlx"
	}
	return []check{signature, kernels}
}
