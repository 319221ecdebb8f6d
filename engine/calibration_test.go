package engine

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// TestCalibratedScores compares calibrated scores with the formula, and shows that
// logits, their order and raw scores stay the same.
func TestCalibratedScores(t *testing.T) {
	dir := tinyDir(t, nil)
	pairs := randomPairs(rand.New(rand.NewPCG(1, 2)), 40)
	plain := openTinyEngine(t, Config{Model: dir})
	before, err := plain.Score(context.Background(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	made, err := plain.NewCalibration(0.25, -1.5)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "calibration.json")
	if err := made.Write(file); err != nil {
		t.Fatal(err)
	}
	read, err := ReadCalibration(file)
	if err != nil || read != made {
		t.Fatalf("read %+v, %v; wrote %+v", read, err, made)
	}
	e := openTinyEngine(t, Config{Model: dir, Calibration: &read})
	if info := e.Info(); info.Activation != SigmoidScores || info.Calibration == nil || *info.Calibration != made || info.Summary().Calibration.Shift != -1.5 {
		t.Errorf("info %+v lacks the calibration", info)
	}
	for name, options := range map[string]ScoreOptions{"default": {}, "sigmoid": {Activation: SigmoidScores}, "raw": {Activation: Raw}, "labels": {AllLabels: true}} {
		after, err := e.ScoreWith(context.Background(), pairs, options)
		if err != nil {
			t.Fatal(err)
		}
		for i, logit := range after.Logits {
			want := float32(1 / (1 + math.Exp(-(float64(logit)+1.5)/0.25)))
			if options.Activation == Raw {
				want = logit
			}
			if math.Abs(float64(logit-before.Logits[i])) > 1e-5 || math.Abs(float64(after.Scores[i]-want)) > 1e-6 {
				t.Errorf("%s: pair %d: logit %v and score %v, want %v and %v", name, i, logit, after.Scores[i], before.Logits[i], want)
			}
			if options.AllLabels && after.ByLabel[i][0].Score != after.Scores[i] {
				t.Errorf("pair %d: score %v of the label, want %v", i, after.ByLabel[i][0].Score, after.Scores[i])
			}
			if options.Activation == "" && math.Abs(float64(after.Scores[i]-before.Scores[i])) < 1e-3 {
				t.Errorf("pair %d: score %v is almost the uncalibrated one", i, after.Scores[i])
			}
		}
	}
	least := 0.9
	ranking, err := e.Rerank(context.Background(), pairs[0].Query, []string{"a cat", "the dog runs", "red bird"}, RerankOptions{Threshold: &least})
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range ranking.Items {
		if item.Score < 0.9 || float64(item.Logit) < -1.5 {
			t.Errorf("item %+v is below the threshold", item)
		}
	}
}

// TestCalibrationOfAnotherModel shows which models a calibration is refused for.
func TestCalibrationOfAnotherModel(t *testing.T) {
	dir := tinyDir(t, nil)
	made, err := openTinyEngine(t, Config{Model: dir}).NewCalibration(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if err := os.CopyFS(clone, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	openTinyEngine(t, Config{Model: clone, Calibration: &made}) // fails the test unless it opens
	other := t.TempDir()
	weightstest.Write(t, other, weightstest.Spec{Config: weightstest.Tiny(64, 2, 2), Seed: 8})
	adapter := filepath.Join(t.TempDir(), "adapter")
	spec := weightstest.Spec{Config: weightstest.Tiny(64, 2, 2), Seed: 7}
	weightstest.WriteAdapter(t, adapter, weightstest.AdapterConfig(4, 8), weightstest.LoRA(spec, 4, 1))
	tokenizer := filepath.Join(t.TempDir(), "tokenizer")
	if err := os.CopyFS(tokenizer, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	weightstest.WriteFile(t, filepath.Join(tokenizer, "tokenizer.json"), append(file, '\n'))
	labels := tinyDir(t, func(config map[string]any) { config["id2label"] = map[string]any{"0": "no", "1": "yes"} })
	byName := Calibration{Temperature: 2, Model: "org/model"}
	for name, c := range map[string]struct {
		config Config
		words  []string
	}{
		"other weights":   {Config{Model: other, Calibration: &made}, []string{dir, other, made.Fingerprint, "mlxrank eval"}},
		"an adapter":      {Config{Model: dir, Adapter: adapter, Calibration: &made}, []string{made.Fingerprint}},
		"other tokenizer": {Config{Model: tokenizer, Calibration: &made}, []string{tokenizer, made.Fingerprint}},
		"another name":    {Config{Model: dir, Calibration: &byName}, []string{`"org/model"`, dir}},
		"several labels":  {Config{Model: labels, Label: "yes", Calibration: &made}, []string{labels, "2 labels"}},
		"raw":             {Config{Model: dir, Activation: Raw, Calibration: &made}, []string{"activation is raw"}},
		"softmax":         {Config{Model: dir, Activation: Softmax, Calibration: &made}, []string{"activation is softmax"}},
		"temperature 0":   {Config{Model: dir, Calibration: &Calibration{Model: dir}}, []string{"temperature is 0"}},
		"negative":        {Config{Model: dir, Calibration: &Calibration{Model: dir, Temperature: -1}}, []string{"temperature is -1"}},
		"infinite":        {Config{Model: dir, Calibration: &Calibration{Model: dir, Temperature: math.Inf(1)}}, []string{"temperature is +Inf"}},
		"NaN":             {Config{Model: dir, Calibration: &Calibration{Model: dir, Temperature: math.NaN()}}, []string{"temperature is NaN"}},
		"shift":           {Config{Model: dir, Calibration: &Calibration{Model: dir, Temperature: 1, Shift: math.Inf(-1)}}, []string{"shift is -Inf"}},
		"no model's name": {Config{Model: dir, Calibration: &Calibration{Temperature: 1}}, []string{"model and fingerprint are missing"}},
	} {
		c.config.Device = CPU
		e, err := Open(context.Background(), c.config)
		if err == nil {
			t.Errorf("%s: opened, %v", name, e.Close())
			continue
		}
		if !errors.Is(err, ErrCalibration) {
			t.Errorf("%s: %v is not ErrCalibration", name, err)
		}
		for _, word := range c.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: error %v lacks %q", name, err, word)
			}
		}
	}
	named := Calibration{Temperature: 2, Model: dir}
	openTinyEngine(t, Config{Model: dir, Calibration: &named})
	if _, err := openTinyEngine(t, Config{Model: labels, Label: "yes"}).NewCalibration(1, 0); !errors.Is(err, ErrCalibration) {
		t.Errorf("several labels: %v", err)
	}
	changed := openTinyEngine(t, Config{Model: clone})
	weightstest.WriteFile(t, filepath.Join(clone, "tokenizer.json"), append(file, '\n'))
	if _, err := changed.NewCalibration(1, 0); err == nil || !strings.Contains(err.Error(), "has changed") {
		t.Errorf("changed files: %v", err)
	}
}

func TestReadCalibrationErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for text, want := range map[string]string{
		"":                               "the file is empty; expected an object",
		"[]":                             "the file is a JSON array; expected an object",
		"5":                              "the file is a JSON number; expected an object",
		"null":                           "temperature is missing",
		`{"te`:                           "the JSON ends too early",
		"x":                              "invalid character 'x'",
		`{"temperature": 1, "shift": 0}`: "model and fingerprint are missing",
		`{"model": "m"}`:                 "temperature is missing",
		`{"temperature": null, "shift": 0, "model": "m"}`:                                        "temperature is missing",
		`{"temperature": 1, "model": "m"}`:                                                       "shift is missing",
		`{"temperature": 0, "shift": 0, "model": "m"}`:                                           "temperature is 0; expected a number from 1e-06 to 1e+06",
		`{"temperature": 1e-320, "shift": 0, "model": "m"}`:                                      "temperature is 1e-320",
		`{"temperature": 1, "shift": -1e308, "model": "m"}`:                                      "shift is -1e+308; expected a number from -1e+06 to 1e+06",
		`{"temprature": 2, "model": "m"}`:                                                        `: unknown field "temprature"`,
		`{"temperature": "2", "model": "m"}`:                                                     "temperature is a JSON string; expected a number",
		`{"temperature": 2, "model": ["m"]}`:                                                     "model is a JSON array; expected a string",
		`{"temperature": 1e999, "model": "m"}`:                                                   "1e999",
		`{"temperature": 1, "shift": 0, "model": "m"} {}`:                                        "text after the JSON object",
		`{"temperature": 1, "shift": 0, "model": "` + strings.Repeat("m", maxCalibration) + `"}`: "more than 1048576 bytes",
	} {
		path := filepath.Join(dir, "calibration.json")
		weightstest.WriteFile(t, path, []byte(text))
		c, err := ReadCalibration(path)
		if err == nil || !errors.Is(err, ErrCalibration) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.60s: %+v, %v; want an error with %q and the path", text, c, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "Go v") || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "engine.")) {
			t.Errorf("%.60s: %v has words of Go", text, err)
		}
	}
	if _, err := ReadCalibration(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || !errors.Is(err, ErrCalibration) {
		t.Errorf("no file: %v", err)
	}
	if err := (Calibration{Temperature: math.NaN(), Model: "m"}).Write(filepath.Join(dir, "nan.json")); !errors.Is(err, ErrCalibration) {
		t.Errorf("NaN: %v", err)
	}
}

// TestCalibrationScore checks the scores of far logits.
func TestCalibrationScore(t *testing.T) {
	t.Parallel()
	var none *Calibration
	c := &Calibration{Temperature: 2, Shift: 3}
	for _, test := range []struct {
		calibration *Calibration
		logit, want float64
	}{{none, 0, 0.5}, {c, 3, 0.5}, {c, 5, sigmoid(1)}, {c, math.MaxFloat32, 1}, {c, -math.MaxFloat32, 0}} {
		if got := test.calibration.Score(test.logit); got != test.want {
			t.Errorf("%+v: score %v of %v, want %v", test.calibration, got, test.logit, test.want)
		}
	}
}
