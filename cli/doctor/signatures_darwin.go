package doctor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/mlxrank/mlxrank/mlx"
)

// checkSignatures asks codesign about the program and the libraries: macOS
// kills a process that maps code whose signature is broken, without a word. It
// also looks for Metal's kernels, which MLX wants beside libmlx.
func checkSignatures(ctx context.Context, info mlx.Info) []check {
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
		kernels.remedy = "run `make build`, which puts mlx.metallib beside libmlx"
	}
	return []check{signature, kernels}
}
