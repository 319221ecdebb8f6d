package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gofrs/flock"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// logit returns the logit of one pair, and the dtype of the summary.
func logit(t *testing.T, args ...string) (float64, string) {
	t.Helper()
	args = append(args, "--activation", "raw", "--query", "water", "a page of data")
	r := mlxrank.MustRun(t, "", append([]string{"rerank", "--json"}, args...)...)
	found := regexp.MustCompile(`"logit": ?(-?[0-9.e-]+)`).FindStringSubmatch(r.Out)
	if found == nil {
		t.Fatalf("no logit in %s", r.Out)
	}
	number, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return number, mlxrank.Summary(t, args...).DType
}

func TestModelQuantize(t *testing.T) {
	model := clitest.TinyModel(t)
	exact, _ := logit(t, "--model", model)
	for _, test := range []struct{ bits, group string }{{"8", "64"}, {"8", "32"}, {"4", "64"}, {"4", "32"}} {
		dir := filepath.Join(t.TempDir(), "small")
		r := mlxrank.MustRun(t, "", "model", "quantize", "--model", model, "--bits", test.bits, "--group-size", test.group, "--queries", "2", dir)
		if r.Out != dir+"\n" || !strings.Contains(r.ErrOut, "Kendall's tau") || strings.Contains(r.ErrOut, "\r") {
			t.Errorf("standard output %q, error\n%s", r.Out, r.ErrOut)
		}
		if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) != 1 {
			t.Errorf("%v beside the copy, %v", left, err)
		}
		format := weights.WeightFormat("int" + test.bits + "w")
		atLoad, err := weights.Open(t.Context(), model, weights.Options{Weights: format, GroupSize: map[string]int{"64": 64, "32": 32}[test.group]})
		if err != nil {
			t.Fatal(err)
		}
		copied, err := weights.Open(t.Context(), dir, weights.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if copied.Quantization != atLoad.Quantization || len(copied.Tensors) != len(atLoad.Tensors) || copied.MaxLength != atLoad.MaxLength {
			t.Errorf("the copy has %v and %d tensors, want %v and %d", copied.Quantization, len(copied.Tensors), atLoad.Quantization, len(atLoad.Tensors))
		}
		for i, tensor := range copied.Tensors {
			if want := atLoad.Tensors[i]; tensor.Name != want.Name || string(tensor.Data) != string(want.Data) {
				t.Errorf("%s differs from what is quantized at load", tensor.Name)
			}
		}
		for _, m := range []*weights.Model{atLoad, copied} {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
		card, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		worst := regexp.MustCompile(`largest difference of logits, in standard deviations \| ([0-9.]+)`).FindSubmatch(card)
		if strings.Contains(string(card), filepath.Dir(model)) || !strings.Contains(string(card), "A copy of "+filepath.Base(model)+" that") {
			t.Errorf("the card names folders, or not the model %s:\n%s", filepath.Base(model), card)
		}
		if worst == nil || !strings.Contains(string(card), "groups of "+test.group) || strings.Contains(string(card), "| 0.0000 |") {
			t.Errorf("card:\n%s", card)
		}
		shown := mlxrank.MustRun(t, "", "model", "show", dir).Out
		if want := fmt.Sprintf("weights     %s: %s bits, groups of %s\n", format, test.bits, test.group); !strings.Contains(shown, want) {
			t.Errorf("model show lacks %q:\n%s", want, shown)
		}
		// The copy scores as its weights in float32, and its dtype is read from the graph.
		small, dtype := logit(t, "--model", dir)
		wide, dtype32 := logit(t, "--model", dir, "--dtype", "float32")
		if dtype != string(format) || dtype32 != "float32" {
			t.Errorf("dtypes %s and %s, want %s and float32", dtype, dtype32, format)
		}
		if d := small - wide; d > 1e-4 || d < -1e-4 || small == exact {
			t.Errorf("%s: logit %v, as float32 %v, of the original %v", format, small, wide, exact)
		}
		if same, dtype := logit(t, "--model", dir, "--dtype", string(format)); same != small || dtype != string(format) {
			t.Errorf("%s asked for: %v %s, want %v", format, same, dtype, small)
		}
	}
}

// TestModelQuantizeBuiltin writes builtin, whose adapter is merged and whose maximum length
// no file has.
func TestModelQuantizeBuiltin(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	dir := filepath.Join(t.TempDir(), "small")
	r := mlxrank.MustRun(t, "", "model", "quantize", "--model", "builtin", "--queries", "3", dir)
	tau := regexp.MustCompile(`tau ([0-9.]+)`).FindStringSubmatch(r.ErrOut)
	if tau == nil || tau[1] < "0.98" {
		t.Errorf("tau %v, want at least 0.98:\n%s", tau, r.ErrOut)
	}
	m, err := weights.Open(t.Context(), dir, weights.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.MaxLength != 512 || m.Config.Labels != 1 || m.Architecture != "BertForSequenceClassification" || len(m.Warnings) > 0 {
		t.Errorf("maximum length %d, %d labels, %s, warnings %v", m.MaxLength, m.Config.Labels, m.Architecture, m.Warnings)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestModelQuantizeRefuses(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	out := filepath.Join(dir, "small")
	narrow := filepath.Join(dir, "narrow")
	weightstest.Write(t, narrow, weightstest.Spec{Config: weightstest.Tiny(8, 2, 1)})
	small := filepath.Join(t.TempDir(), "small")
	mlxrank.MustRun(t, "", "model", "quantize", "--model", model, "--queries", "1", small)
	for _, test := range []struct {
		args   []string
		status int
		want   []string
	}{
		{[]string{"--model", model}, command.ExitUsage, []string{"needs one OUTDIR"}},
		{[]string{"--model", model, "--bits", "5", out}, command.ExitUsage, []string{"--bits is 5", "8 or 4"}},
		{[]string{"--model", model, "--group-size", "128", out}, command.ExitUsage, []string{"--group-size is 128", "32 or 64"}},
		{[]string{"--model", model, "--queries", "0", out}, command.ExitUsage, []string{"--queries is 0"}},
		{[]string{"--model", model, narrow}, command.ExitFailure, []string{narrow + " exists already"}},
		{[]string{"--model", narrow, out}, command.ExitFailure, []string{"does not divide its 8 columns", "word_embeddings"}},
		{[]string{"--model", filepath.Join(dir, "none"), out}, command.ExitFailure, []string{"no such directory"}},
		{[]string{"--model", model, filepath.Join(dir, "none", "small")}, command.ExitFailure, []string{"the folder of OUTDIR is missing", filepath.Join(dir, "none") + ": no such file or directory"}},
		{[]string{"--model", small, out}, command.ExitFailure, []string{small, "int8w weights with groups of 64 already", "quantize the original"}},
		{[]string{"--model", small, "--group-size", "32", out}, command.ExitFailure, []string{small, "int8w weights with groups of 64 already", "quantize the original"}},
		{[]string{"--model", small, "--bits", "4", out}, command.ExitFailure, []string{small, "int8w, not int4w", "original"}},
	} {
		r := mlxrank.Run(t, "", append([]string{"model", "quantize"}, test.args...)...)
		clitest.CheckFailure(t, r, test.status, test.want...)
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("%v: %v is left, %v", test.args, left, err)
		}
	}
}

// TestModelQuantizeLeavesNothing ends the program early: by an interrupt, and by a full
// disk at several moments.
func TestModelQuantizeLeavesNothing(t *testing.T) {
	model := clitest.TinyModel(t)
	checkEmpty := func(dir string) {
		t.Helper()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v is left, %v", left, err)
		}
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := mlxrank.RunContext(ctx, t, strings.NewReader(""), "model", "quantize", "--model", model, filepath.Join(dir, "small")); r.Status != command.ExitInterrupted {
		t.Errorf("status %d\n%s", r.Status, r.ErrOut)
	}
	checkEmpty(dir)
	for _, limit := range []string{"0", "100", "10000", "100000"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "model", "quantize", "--model", model, "--queries", "1", filepath.Join(dir, "small"))
		cmd.Env = append(os.Environ(), fileLimitEnv+"="+limit)
		if out, err := cmd.CombinedOutput(); err == nil || strings.Count(string(out), "file too large") != 1 {
			t.Errorf("limit %s: %v\n%s", limit, err, out)
		}
		checkEmpty(dir)
	}
}

// TestModelQuantizeRemovesAbandoned finds what killed runs left, what another run uses, and
// directories that have only similar names.
func TestModelQuantizeRemovesAbandoned(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	const abandoned, used = ".small.mlxrank-quantize-abandoned.tmp", ".small.mlxrank-quantize-used.tmp"
	others := []string{".smaller.mlxrank-quantize-0.tmp", ".small.mlxrank-quantize-my.notes.tmp", ".small.0.tmp", ".small.mlxrank-quantize-0"}
	for _, name := range append(others, abandoned, used) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
		clitest.WriteFile(t, filepath.Join(dir, name, "model.safetensors"), "")
	}
	lock := flock.New(filepath.Join(dir, used), flock.SetFlag(os.O_RDONLY))
	if locked, err := lock.TryLock(); err != nil || !locked {
		t.Fatal(locked, err)
	}
	check := func(want ...string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%v are left, want %v", names, want)
		}
	}
	r := mlxrank.MustRun(t, "", "model", "quantize", "--model", model, "--queries", "1", "--log-level", "info", filepath.Join(dir, "small"))
	if !strings.Contains(r.ErrOut, abandoned) || strings.Contains(r.ErrOut, used) {
		t.Errorf("standard error:\n%s", r.ErrOut)
	}
	check(append(others, "small", used)...)
	if err := errors.Join(lock.Close(), os.RemoveAll(filepath.Join(dir, "small"))); err != nil {
		t.Fatal(err)
	}
	mlxrank.MustRun(t, "", "model", "quantize", "--model", model, "--queries", "1", filepath.Join(dir, "small"))
	check(append(others, "small")...)
}

// TestModelQuantizeLocks starts a run beside another one, whose directory stays.
func TestModelQuantizeLocks(t *testing.T) {
	q := &quantizing{dir: filepath.Join(t.TempDir(), "small")}
	if err := q.makeTemp(); err != nil {
		t.Fatal(err)
	}
	other := &quantizing{dir: q.dir}
	if err := other.removeAbandoned(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(q.temp); err != nil {
		t.Errorf("the directory of a run: %v", err)
	}
	if err := q.lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := other.removeAbandoned(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(q.temp); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an abandoned directory: %v, want it removed", err)
	}
}
