package bench

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench"
	"github.com/mlxrank/mlxrank/cli/internal/clitest"
)

// TestBenchBar checks that the bar shows the point, the rate, latencies and the time
// left, and that the log is printed above it.
func TestBenchBar(t *testing.T) {
	t.Setenv("TERM", "xterm")
	user, program := clitest.OpenTerminal(t, 120)
	p := newBenchProgress(program)
	p.log = zerolog.New(p.w)
	if p.bar == nil || p.every() >= time.Second {
		t.Fatal("no bar on a terminal")
	}
	progress := bench.Progress{Step: 2, Steps: 9, Label: "batch=32", Done: 40, Total: 100, PairsPerS: 113.94, P50: 280.34, P95: 299.5, Left: 90 * time.Second}
	p.show(progress)
	p.log.Error().Msg("point failed")
	progress.Step, progress.Done = 3, 100
	p.show(progress)
	progress.Step, progress.Done, progress.Total, progress.Length, progress.Elapsed = 4, 7, 0, 10*time.Second, 5*time.Second
	p.show(progress)
	p.end()
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(user)
	if err != nil && !errors.Is(err, syscall.EIO) { // the other end is closed
		t.Fatal(err)
	}
	if err := user.Close(); err != nil {
		t.Fatal(err)
	}
	got := string(data)
	for _, want := range []string{"2/9 batch=32: 113.9 pairs/s, P50 280.3 ms P95 299.5 ms, ETA 1m30s", "40%", "3/9", "99%", "4/9", "50%", "\r{\"level\":\"error\",\"message\":\"point failed\"}\r\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if strings.Contains(got, "\x1b[3") || strings.Count(got, "\n") != 1 {
		t.Errorf("colours, or more lines than the log's: %q", got)
	}
}
