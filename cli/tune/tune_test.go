package tune

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
)

// run runs tune --json on a small model.
func run(t *testing.T, args ...string) report {
	t.Helper()
	r := mlxrank.MustRun(t, "", append([]string{"tune", "--json", "--quiet", "--device", "cpu"}, args...)...)
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	var got report
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil {
		t.Fatalf("%v\n%s", err, r.Out)
	}
	return got
}

// Every dtype has a row with its own label or a reason, the sizes have rows too, and the
// choice is one of the rows within the bound. It is written, and the rest of the file stays.
func TestTuneChoosesAndWrites(t *testing.T) {
	config := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), "# mine\nmax-length: 64   # kept\ndtype: bfloat16\n")
	got := run(t, "--model", clitest.TinyModel(t), "--write-config", "--config", config)
	seen := map[engine.DType]int{}
	for _, row := range got.Rows {
		seen[row.DType]++
		if row.PairsS <= 0 || row.LowestPairsS > row.PairsS || row.HighestPairsS < row.PairsS || row.P50MS <= 0 || row.PeakMB < 1 || row.Rounds < 1 || row.MicrobatchTokens < 1 || row.Threads < 1 {
			t.Errorf("row %+v", row)
		}
		if row.DType == engine.Float32 && (row.Quality.Worst > 1e-3 || !row.WithinBound || row.Quality.Queries < 1) {
			t.Errorf("float32 differs from itself: %+v", row.Quality)
		}
		if row.DType == engine.BFloat16 && row.Quality.Worst == 0 {
			t.Errorf("bfloat16 has float32's scores: %+v", row)
		}
	}
	for _, f := range got.Failed {
		if f.Reason == "" {
			t.Errorf("%s has no reason", f.DType)
		}
		seen[f.DType]++
	}
	for _, dtype := range command.DTypes() {
		if seen[dtype] == 0 {
			t.Errorf("%s was not measured", dtype)
		}
	}
	if seen[got.Choice.DType] < 3 {
		t.Errorf("%s, which is chosen, was measured with %d sizes", got.Choice.DType, seen[got.Choice.DType])
	}
	i := slices.IndexFunc(got.Rows, got.isChosen)
	if i < 0 || !got.Rows[i].WithinBound || got.Choice.Why == "" || got.Choice.ConfigFile == "" {
		t.Fatalf("choice %+v", got.Choice)
	}
	data, err := os.ReadFile(config)
	want := fmt.Sprintf("# mine\nmax-length: 64   # kept\ndtype: %s\n", got.Choice.DType)
	if err != nil || !strings.HasPrefix(string(data), want) {
		t.Errorf("the config file is %q, want %q and perhaps sizes", data, want)
	}
	standard := slices.IndexFunc(got.Rows, func(r row) bool { return r.Default })
	if standard < 0 {
		t.Fatal("no row is the default")
	}
	if d := got.Rows[standard]; (d.MicrobatchTokens != got.Choice.MicrobatchTokens) != strings.Contains(string(data), fmt.Sprintf("microbatch-tokens: %d\n", got.Choice.MicrobatchTokens)) {
		t.Errorf("microbatches of %d tokens are chosen, the file is %q", got.Choice.MicrobatchTokens, data)
	}
}

// With judgements the quality is eval's measure; sizes on the command line are fixed.
func TestTuneWithJudgements(t *testing.T) {
	got := run(t, "--model", clitest.TinyModel(t), "--demo", "--threads", "1", "--microbatch-tokens", "128")
	for _, row := range got.Rows {
		if row.Threads != 1 || row.MicrobatchTokens != 128 {
			t.Errorf("row %+v has other sizes", row)
		}
		if q := row.Quality; q.NDCG == nil || *q.NDCG <= 0 || *q.NDCG > 1 || q.P == nil {
			t.Errorf("row %+v has no nDCG@10", row)
		}
	}
	if *got.Rows[0].Quality.Difference != 0 || !strings.Contains(got.Bound, "nDCG@10") || got.Choice.ConfigFile != "" {
		t.Errorf("%+v", got)
	}
}

func TestTuneTable(t *testing.T) {
	r := mlxrank.MustRun(t, "", "tune", "--model", clitest.TinyModel(t), "--device", "cpu", "--threads", "1", "--microbatch-tokens", "128")
	lines := strings.Split(r.Out, "\n")
	if !strings.Contains(lines[1], "pairs/s") || !strings.Contains(lines[2], "float32") {
		t.Errorf("table\n%s", r.Out)
	}
	for _, name := range []string{"measured ", "bound ", "rule      float32, the default, stays", "choice ", "config    unchanged"} {
		if !strings.Contains(r.Out, "\n"+name) {
			t.Errorf("no line %q:\n%s", name, r.Out)
		}
	}
	if strings.Contains(r.ErrOut, "\r") {
		t.Errorf("a progress bar in a pipe: %q", r.ErrOut)
	}
}

func TestTuneRefusals(t *testing.T) {
	dir := t.TempDir()
	readOnly := clitest.WriteFile(t, filepath.Join(dir, "read-only.yaml"), "model: builtin\n")
	if err := os.Chmod(readOnly, 0o400); err != nil {
		t.Fatal(err)
	}
	flow := clitest.WriteFile(t, filepath.Join(dir, "flow.yaml"), "{model: builtin, dtype: int8}\n")
	damaged := clitest.WriteFile(t, filepath.Join(dir, "damaged.yaml"), "dtype: [1\n")
	for _, test := range []struct {
		args   string
		status int
		words  []string
	}{
		{"--model " + dir + "/none", command.ExitFailure, []string{"none"}},
		{"--model builtin --dtype float16", command.ExitUsage, []string{"omit --dtype"}},
		{"--model builtin --threads 0", command.ExitUsage, []string{"--threads 0"}},
		{"--model builtin --microbatch-tokens -1", command.ExitUsage, []string{"--microbatch-tokens -1"}},
		{"--model builtin --write-config out.yaml", command.ExitUsage, []string{"out.yaml", "--config"}},
		{"--model builtin --write-config --config " + readOnly, command.ExitFailure, []string{"read-only"}},
		{"--model builtin --write-config --config " + flow, command.ExitFailure, []string{"flow.yaml", "one line for each key", "--config"}},
		{"--model builtin --write-config --config " + damaged, command.ExitFailure, []string{"damaged.yaml"}},
		{"--model builtin --write-config --config " + dir + "/none/c.yaml", command.ExitFailure, []string{"none/c.yaml", "cannot be written"}},
		{"--model builtin --qrels none.tsv", command.ExitUsage, []string{"--run"}},
		{"--model builtin --demo --qrels none.tsv", command.ExitUsage, []string{"omit --qrels"}},
		{"--model builtin --qrels none.tsv --run none.run", command.ExitUsage, []string{"--queries and --documents"}},
		{"--model builtin --qrels none.tsv --run none.run --queries q --documents d", command.ExitFailure, []string{"none.tsv"}},
		{"--model builtin --library " + dir + "/none.so", command.ExitFailure, []string{"none.so"}},
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"tune"}, strings.Fields(test.args)...)...), test.status, test.words...)
	}
	if data, err := os.ReadFile(readOnly); err != nil || string(data) != "model: builtin\n" {
		t.Errorf("%q, error %v", data, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("files %v, error %v", entries, err)
	}
}

// A choice that could not be written does not offer --write-config, which was given.
func TestTuneCannotWrite(t *testing.T) {
	file := &command.SettingsFile{Path: clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), "{changed: meanwhile}\n")}
	r := report{Choice: &choice{DType: engine.Float32}}
	if err := r.Choice.write(file, "", configured(engine.Float32, 0)); err == nil {
		t.Error("written")
	}
	if text := r.notes(); !strings.Contains(text, "could not be written") || strings.Contains(text, "--write-config") {
		t.Errorf("%s", text)
	}
}

// cancelling is standard error that cancels a run at its first byte, or a reader's end.
type cancelling struct {
	cancel context.CancelFunc
	*strings.Reader
}

func (c cancelling) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil {
		c.cancel()
	}
	return n, err
}

// An interrupted run leaves the config file as it was and ends its workers.
func TestTuneInterrupted(t *testing.T) {
	text := "dtype: float32 # mine\n"
	config := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), text)
	ctx, cancel := context.WithCancel(t.Context())
	candidates := `{"query": "a", "document": "b", "label": 1, "id": "1"}` + "\n" + `{"query": "a", "document": "c", "label": 0, "id": "2"}` + "\n"
	r := mlxrank.RunContext(ctx, t, cancelling{cancel, strings.NewReader(candidates)}, "tune", "--model", clitest.TinyModel(t), "--candidates", "-", "--write-config", "--config", config)
	if r.Status != command.ExitInterrupted || !strings.Contains(r.ErrOut, "interrupted") {
		t.Errorf("status %d, %q", r.Status, r.ErrOut)
	}
	if data, err := os.ReadFile(config); err != nil || string(data) != text {
		t.Errorf("the config file is %q, error %v", data, err)
	}
}

// A run that is interrupted after some rounds prints them, without a choice.
func TestTuneReportsWhatWasMeasured(t *testing.T) {
	texts, err := builtinTexts()
	if err != nil {
		t.Fatal(err)
	}
	baseline := configured(engine.Float32, 0, 100)
	baseline.baseline, baseline.logits = true, [][]float32{{1, 2}}
	other := configured("int8", 0)
	run := &tuning{texts: texts, all: []*configuration{baseline, other}}
	r := run.report(nil, true)
	if len(r.Rows) != 1 || r.Choice != nil || !r.Interrupted {
		t.Errorf("%+v", r)
	}
	var b strings.Builder
	if err := r.print(&b); err != nil || strings.Contains(b.String(), "choice ") {
		t.Errorf("%s, error %v", b.String(), err)
	}
}
