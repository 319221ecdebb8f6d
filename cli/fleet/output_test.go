package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/fleet"
)

// leaveUnfinished leaves an output as an interrupted run with these settings does.
func leaveUnfinished(t *testing.T, path string, settings ...scored.Setting) {
	t.Helper()
	out, err := scored.Create(t.Context(), path, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Begin(settings); err != nil {
		t.Fatal(err)
	}
	if err := out.WriteChunk([]byte("a line\n"), scored.Position{Stretch: scored.Stretch{Sum: make([]byte, sha256.Size)}}, scored.Tally{Records: 1}); err != nil {
		t.Fatal(err)
	}
	var kept *scored.KeptError
	if err := out.Close(context.Canceled); !errors.As(err, &kept) {
		t.Fatalf("nothing is kept: %v", err)
	}
}

// TestUnfinishedOutput submits to outputs that earlier runs left. The message names the
// command that continues each.
func TestUnfinishedOutput(t *testing.T) {
	url, dir := startServer(t), t.TempDir()
	in, job, score := filepath.Join(dir, "pairs.jsonl"), filepath.Join(dir, "job"), filepath.Join(dir, "score")
	if err := os.WriteFile(in, []byte(clitest.PairLines(3)), 0o600); err != nil {
		t.Fatal(err)
	}
	leaveUnfinished(t, job, scored.Setting{Name: jobSetting, Value: "0123456789"})
	leaveUnfinished(t, score)
	for path, command := range map[string]string{job: "continue it with mlxrank fleet attach 0123456789, or remove", score: "continue it with mlxrank score --resume, or remove"} {
		result := mlxrank.Run(t, "", "fleet", "submit", "--join", url, "--model", "builtin", "--input", in, "--output", path)
		clitest.CheckFailure(t, result, 1, "an earlier run was not finished", command)
	}
}

// TestAbandonedStream submits with an output that its reader closes. attach could not
// continue the job, so it must not stay.
func TestAbandonedStream(t *testing.T) {
	url, in := startServer(t), filepath.Join(t.TempDir(), "pairs.jsonl")
	if err := os.WriteFile(in, []byte(clitest.PairLines(20)), 0o600); err != nil {
		t.Fatal(err)
	}
	startWorkers(t, url, 1)
	reader, out := io.Pipe()
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	var log logBuffer
	args := []string{"mlxrank", "fleet", "submit", "--join", url, "--model", clitest.TinyModel(t), "--input", in, "--output", "-"}
	if status := mlxrank(t.Context(), args, strings.NewReader(""), out, &log); status != command.ExitFailure {
		t.Errorf("status %d, expected %d: %s", status, command.ExitFailure, &log)
	}
	list := mlxrank.MustRun(t, "", "fleet", "list", "--join", url, "--json").Out
	if !strings.Contains(list, `"state": "cancelled"`) {
		t.Errorf("the job is not cancelled: %s", list)
	}
}

// TestJobsFitTerminal prints jobs with long names and many pairs at 80 columns.
func TestJobsFitTerminal(t *testing.T) {
	var out bytes.Buffer
	row := jobRow{ID: "0123456789", State: string(fleet.Cancelled), Started: time.Now(), Pairs: 143_000_000, Input: strings.Repeat("long name ", 9)}
	table := jobTable([]jobRow{row})
	if err := table.Write(&out, 80); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := output.Display.StringWidth(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("a line has %d columns, expected at most 80: %s", n, line)
		}
	}
	if !strings.Contains(out.String(), "long name…") {
		t.Errorf("the table does not name the input: %s", &out)
	}
}

// TestEmptyInput submits a file without pairs, which needs no worker.
func TestEmptyInput(t *testing.T) {
	url, dir := startServer(t), t.TempDir()
	in := filepath.Join(dir, "pairs.jsonl")
	if err := os.WriteFile(in, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	result := mlxrank.MustRun(t, "", "fleet", "submit", "--join", url, "--model", clitest.TinyModel(t), "--input", in, "--output", filepath.Join(dir, "scores"))
	if got := result.ErrOut; !strings.HasPrefix(got, "0 pairs in ") || strings.Contains(got, "worker") {
		t.Errorf("the summary is %q, expected no rate and no workers", got)
	}
}

// TestAbsence describes why no worker takes parts.
func TestAbsence(t *testing.T) {
	for busy, want := range map[int]string{0: "no worker takes parts", 1: "while 1 worker scores other jobs", 2: "while 2 workers score other jobs"} {
		if got := describeAbsence(busy); !strings.Contains(got, want) {
			t.Errorf("%d busy workers: %q, expected %q", busy, got, want)
		}
	}
}
