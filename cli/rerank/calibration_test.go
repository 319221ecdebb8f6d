package rerank

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestRerankCalibration checks that --calibration makes the scores, that the summary
// names it, and that the environment can set it.
func TestRerankCalibration(t *testing.T) {
	model, file := clitest.TinyModel(t), filepath.Join(t.TempDir(), "calibration.json")
	made, err := clitest.OpenEngine(t, model).NewCalibration(0.5, -0.25)
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Write(file); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--model", model, "--device", "cpu", "--query", "city"}, passages...)
	check := func(got rankingJSON) {
		t.Helper()
		if c := got.Run.Calibration; c == nil || c.Temperature != 0.5 || c.Shift != -0.25 || got.Run.Activation != "sigmoid" {
			t.Errorf("run %+v", got.Run.Info)
		}
		for _, r := range got.Results {
			if want := 1 / (1 + math.Exp(-(float64(r.Logit)+0.25)/0.5)); math.Abs(float64(r.Score)-want) > 1e-6 {
				t.Errorf("logit %v has score %v, want %v", r.Logit, r.Score, want)
			}
		}
	}
	check(rerankJSON(t, "", append([]string{"--calibration", file}, args...)...))
	if plain := rerankJSON(t, "", args...); plain.Run.Calibration != nil {
		t.Errorf("a run without calibration has %+v", plain.Run.Calibration)
	}
	text := mlxrank.MustRun(t, "", append([]string{"rerank", "--calibration", file}, args...)...)
	if !strings.Contains(text.ErrOut, "activation sigmoid, calibrated with temperature 0.5 and shift -0.25") {
		t.Errorf("the summary does not name the calibration: %s", text.ErrOut)
	}
	fails := func(status int, flags []string, words ...string) {
		t.Helper()
		clitest.CheckFailure(t, mlxrank.Run(t, "", append(append([]string{"rerank"}, flags...), args...)...), status, words...)
	}
	fails(command.ExitFailure, []string{"--calibration", filepath.Join(t.TempDir(), "none")}, "mlxrank: calibration: open", "no such file")
	fails(command.ExitFailure, []string{"--calibration", clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.json"), `{"temperature": 0, "shift": 0, "model": "m"}`)}, "mlxrank: calibration ", "c.json: temperature is 0")
	fails(command.ExitUsage, []string{"--calibration", ""}, "--calibration is empty")
	fails(command.ExitFailure, []string{"--calibration", file, "--activation", "raw"}, "calibration", "activation is raw")
	other := clitest.WriteFile(t, filepath.Join(t.TempDir(), "other.json"), `{"temperature": 2, "shift": 1, "model": "org/other"}`)
	fails(command.ExitFailure, []string{"--calibration", other}, `"org/other"`, model)

	t.Setenv("MLXRANK_CALIBRATION", file)
	check(rerankJSON(t, "", args...))
}
