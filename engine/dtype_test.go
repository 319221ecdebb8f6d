package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ebitengine/purego"
	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/mlx"
)

// On each graph and in each dtype, an engine reports the dtype of its graph's matmuls,
// also after its session was opened again and after a variant was chosen.
func TestDTypeIsTheGraphs(t *testing.T) {
	for _, graph := range []string{"0", "1"} {
		for _, asked := range []DType{DTypeAuto, Float32, Float16, BFloat16, Int8, Int8W, Int4W} {
			if asked == Int8 && (graph == "1" || testDevice() == mlx.GPU) {
				continue // which has no such graph
			}
			t.Run(fmt.Sprintf("%s, unfused %s", asked, graph), func(t *testing.T) {
				unfused(t)
				t.Setenv(unfusedGraphEnv, graph)
				e := openTinyEngine(t, Config{DType: asked, Lab: &lab.Options{ChooseOnCPU: true}})
				want := asked
				if asked == DTypeAuto {
					want = Float32
					if testDevice() == mlx.GPU {
						want = Float16
					}
				}
				if err := e.Ready(context.Background()); err != nil {
					t.Fatal(err)
				}
				if got := e.Info().DType; got != want {
					t.Errorf("dtype %s, want %s", got, want)
				}
				session, ok := e.pipeline.device.session.(*mlx.Session)
				if !ok {
					t.Fatal("the session is no mlx.Session")
				}
				operands := fmt.Sprintf("%s x %s", want, want)
				switch want {
				case Int8W:
					operands = "x 8-bit weights"
				case Int4W:
					operands = "x 4-bit weights"
				}
				encoder := 0
				for _, m := range session.Matmuls() {
					if m.Part == mlx.InEncoder && strings.Contains(m.String(), operands) {
						encoder += int(m.Count)
					}
				}
				if encoder == 0 {
					t.Errorf("no matmul of the encoder is %s: %v", operands, session.Matmuls())
				}
				if text := strings.Join(e.Info().Matmuls, "\n"); !strings.Contains(text, fmt.Sprintf("%d ", encoder)) || !strings.Contains(text, operands) || !strings.Contains(text, "float32 x float32 (head)") {
					t.Errorf("Info has matmuls %q", text)
				}
			})
		}
	}
}

// An engine whose graph computes in another dtype than was asked for does not open, nor
// does one whose session is opened again.
func TestWrongDTypeIsRefused(t *testing.T) {
	unfused(t)
	path, err := filepath.Abs(filepath.Join("..", "build", "native", "faults", mlx.LibraryFile))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Model: tinyDir(t, nil), Library: path, Device: CPU, Logger: zerolog.Nop()}
	e, err := Open(context.Background(), cfg) // which loads the library
	if err != nil {
		t.Fatalf("%v\nbuild it with: python3 scripts/setup.py faults", err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		t.Fatal(err)
	}
	var inject func(fault string, nth int32) int32
	purego.RegisterLibFunc(&inject, handle, "mlxrank_inject")
	for _, dtype := range []DType{Float32, Float16, BFloat16} {
		cfg.DType = dtype
		inject("type", 1)
		wrong, err := Open(context.Background(), cfg)
		if !errors.Is(err, mlx.ErrDType) || !strings.Contains(err.Error(), string(dtype)+" was asked for") || !strings.Contains(err.Error(), "mlxrank doctor") {
			t.Errorf("%s: engine %v, error %v", dtype, wrong, err)
		}
	}
	inject("type", 1)
	if _, err := e.pipeline.device.reopen(); !errors.Is(err, mlx.ErrDType) {
		t.Errorf("opened again: error %v", err)
	}
}
