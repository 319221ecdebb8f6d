package progress

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/weights"
)

// TestBar shows one bar for all files on a terminal, without colours, and
// leaves a clean line when the download is complete and when it is broken off.
func TestBar(t *testing.T) {
	const clearLine = "\x1b[2K\r"
	reports := []weights.Progress{{Model: "org/name", File: "a", Total: 400_000}, {Model: "org/name", File: "b", Total: 600_000}}
	half := []weights.Progress{{Model: "org/name", File: "b", Done: 300_000, Total: 600_000}, {Model: "org/name", File: "a", Done: 400_000, Total: 400_000}}
	rest := weights.Progress{Model: "org/name", File: "b", Done: 600_000, Total: 600_000}
	send := func(d *Downloads, reports ...weights.Progress) {
		for _, p := range reports {
			d.Report(p)
			time.Sleep(120 * time.Millisecond) // more than the pause between two drawings
		}
	}
	whole := clitest.Shown(t, func(w io.Writer) {
		d := NewDownloads(w)
		send(d, append(append(reports, half...), rest)...)
		d.End()
	})
	for _, want := range []string{"org/name", " 30% ", " 70% ", "kB"} {
		if !strings.Contains(whole, want) {
			t.Errorf("lacks %q: %q", want, whole)
		}
	}
	if !strings.HasSuffix(whole, clearLine) || strings.Contains(whole, "\n") || strings.Contains(whole, "downloaded") || strings.Contains(whole, "\x1b[3") {
		t.Errorf("got %q", whole)
	}
	broken := clitest.Shown(t, func(w io.Writer) {
		d := NewDownloads(w)
		send(d, append(reports, half...)...)
		d.End()
		d.Report(rest)
	})
	if !strings.HasSuffix(broken, clearLine) || strings.Contains(broken, "100%") {
		t.Errorf("got %q", broken)
	}
	t.Setenv("TERM", "dumb")
	if dumb := clitest.Shown(t, func(w io.Writer) { send(NewDownloads(w), half[1]) }); dumb != "downloaded a of org/name, 400.0 kB\r\n" {
		t.Errorf("got %q", dumb)
	}
}
