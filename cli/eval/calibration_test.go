package eval

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
)

// labelled writes candidates whose labels follow the logits of the model, except some,
// or their opposite.
func labelled(t *testing.T, model string, opposite bool) string {
	t.Helper()
	e := clitest.OpenEngine(t, model)
	var pairs []engine.Pair
	for i := range 40 {
		pairs = append(pairs, engine.Pair{Query: "city", Document: fmt.Sprintf("page %d of london, %d people", i, i*i)})
	}
	result, err := e.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	mean := 0.0
	for _, logit := range result.Logits {
		mean += float64(logit) / float64(len(pairs))
	}
	var b strings.Builder
	for i, pair := range pairs {
		relevant := float64(result.Logits[i]) > mean != (i%5 == 0) != opposite
		label := 0
		if relevant {
			label = 1
		}
		fmt.Fprintf(&b, `{"query_id": "1", "document_id": "d%d", "query": "%s", "document": "%s", "label": %d}`+"\n", i, pair.Query, pair.Document, label)
	}
	return clitest.WriteFile(t, filepath.Join(t.TempDir(), "labelled.jsonl"), b.String())
}

// TestCalibration scores the labelled pairs with the written calibration, and
// computes the log loss of these scores.
func TestCalibration(t *testing.T) {
	model := clitest.TinyModel(t)
	candidates, file := labelled(t, model, false), filepath.Join(t.TempDir(), "calibration.json")
	args := []string{"--candidates", candidates, "--model", model, "--depth", "40"}
	config := evalJSON(t, append(args, "--write-calibration", file)...).Configurations[0]
	fit := config.Thresholds.Calibration
	c, err := engine.ReadCalibration(file)
	if err != nil {
		t.Fatal(err)
	}
	if c.Temperature != fit.Temperature || c.Shift != fit.Shift || c.Pairs != 40 || c.Relevant != config.Thresholds.Relevant.N ||
		c.LossBefore != fit.LossBefore || c.LossAfter != fit.LossAfter || !(c.LossAfter < c.LossBefore) || c.Model != model {
		t.Errorf("calibration %+v, fit %+v", c, fit)
	}
	loss := func(args ...string) float64 {
		out := mlxrank.MustRun(t, "", append([]string{"score", "--quiet", "--input", candidates, "--output", "-", "--model", model}, args...)...).Out
		sum, n := 0.0, 0.0
		for line := range strings.Lines(out) {
			var record struct {
				Label int
				Score float64
			}
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			p := record.Score
			if record.Label == 0 {
				p = 1 - p
			}
			sum, n = sum-math.Log(p), n+1
		}
		return sum / n
	}
	if before, after := loss("--activation", "sigmoid"), loss("--calibration", file); math.Abs(before-c.LossBefore) > 1e-5 || math.Abs(after-c.LossAfter) > 1e-5 {
		t.Errorf("log loss of the scores: %v before, %v after, want %v and %v", before, after, c.LossBefore, c.LossAfter)
	}
}

// TestNoCalibration does not fit scores whose order is reversed. Everything else is
// printed and written.
func TestNoCalibration(t *testing.T) {
	model := clitest.TinyModel(t)
	candidates, dir := labelled(t, model, true), t.TempDir()
	args := []string{"eval", "--quiet", "--candidates", candidates, "--model", model, "--depth", "40"}
	file := func(name string) string { return filepath.Join(dir, name) }
	r := mlxrank.Run(t, "", append(args, "--write-calibration", file("c.json"), "--write-run", file("r.run"), "--per-query", file("q.tsv"), "--plot", file("p.svg"))...)
	if r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, "--write-calibration: other pairs have higher logits") {
		t.Errorf("status %d: %s", r.Status, r.ErrOut)
	}
	if !strings.Contains(r.Out, "depth curve of") || !strings.Contains(r.Out, "thresholds of") {
		t.Errorf("the report is incomplete:\n%s", r.Out)
	}
	for _, name := range []string{"r.run", "q.tsv", "p.svg"} {
		if _, err := os.Stat(file(name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(file("c.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the calibration: %v", err)
	}
	if text := mlxrank.MustRun(t, "", append(args, "--thresholds")...).Out; !strings.Contains(text, "calibration: ") {
		t.Errorf("the thresholds do not say why there is no calibration:\n%s", text)
	}
}

// TestOneKindOfPair fails before it opens a model, which does not exist.
func TestOneKindOfPair(t *testing.T) {
	for label, kind := range []string{"relevant", "other"} {
		line := `{"query": "city", "document": "london %d", "label": %d}` + "\n"
		candidates := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.jsonl"), fmt.Sprintf(line+line, 1, label, 2, label))
		for _, flags := range [][]string{{"--thresholds"}, {"--precision", "0.5"}, {"--write-calibration", filepath.Join(t.TempDir(), "c.json")}} {
			r := mlxrank.Run(t, "", append([]string{"eval", "--candidates", candidates, "--model", "/none"}, flags...)...)
			clitest.CheckFailure(t, r, command.ExitFailure, "none of the 2 pairs", kind)
		}
	}
}

// TestWorseCalibration does not write a calibration whose log loss is higher than
// without it: logits that are far apart need no calibration, and three pairs show little.
func TestWorseCalibration(t *testing.T) {
	for _, test := range []struct {
		fit   sigmoidFit
		worse bool
	}{{sigmoidFit{LossBefore: .04, LossAfter: .36}, true}, {sigmoidFit{LossBefore: .36, LossAfter: .04}, false}, {sigmoidFit{LossBefore: .5, LossAfter: .5 + 1e-12}, false}} {
		if got := test.fit.worse(); got != test.worse {
			t.Errorf("%+v: %v", test.fit, got)
		}
		e := &evaluation{options: &options{calibration: filepath.Join(t.TempDir(), "c.json")}}
		if !test.worse {
			continue
		}
		config := &configuration{Thresholds: &thresholdReport{Pairs: 3, Calibration: &test.fit}}
		if err := e.calibrate(config, nil); err == nil || !strings.Contains(err.Error(), "0.3600") || !strings.Contains(err.Error(), "more labelled pairs") {
			t.Errorf("error %v", err)
		}
		sections := thresholdSections(config)
		if notes := strings.Join(sections[1].notes, "\n"); !strings.Contains(notes, "worse than none") {
			t.Errorf("notes %s", notes)
		}
	}
}
