package cli

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/weights"
)

// shown returns what a terminal is sent by use.
func shown(t *testing.T, use func(w io.Writer)) string {
	t.Helper()
	control, terminal := openTerminal(t, 80)
	got := make(chan string)
	go func() {
		data, err := io.ReadAll(control)
		if err != nil && len(data) == 0 { // the end of a terminal is an error
			t.Error(err)
		}
		got <- string(data)
	}()
	use(terminal)
	if err := terminal.Close(); err != nil {
		t.Fatal(err)
	}
	text := <-got
	if err := control.Close(); err != nil {
		t.Fatal(err)
	}
	return text
}

// TestBar shows one bar for all files on a terminal, without colours, and
// leaves a clean line when the download is complete and when it is broken off.
func TestBar(t *testing.T) {
	const clearLine = "\x1b[2K\r"
	reports := []weights.Progress{{Model: "org/name", File: "a", Total: 400_000}, {Model: "org/name", File: "b", Total: 600_000}}
	half := []weights.Progress{{Model: "org/name", File: "b", Done: 300_000, Total: 600_000}, {Model: "org/name", File: "a", Done: 400_000, Total: 400_000}}
	rest := weights.Progress{Model: "org/name", File: "b", Done: 600_000, Total: 600_000}
	send := func(d *downloads, reports ...weights.Progress) {
		for _, p := range reports {
			d.report(p)
			time.Sleep(120 * time.Millisecond) // more than the pause between two drawings
		}
	}
	whole := shown(t, func(w io.Writer) {
		d := newDownloads(w)
		send(d, append(append(reports, half...), rest)...)
		d.end()
	})
	for _, want := range []string{"org/name", " 30% ", " 70% ", "kB"} {
		if !strings.Contains(whole, want) {
			t.Errorf("lacks %q: %q", want, whole)
		}
	}
	if !strings.HasSuffix(whole, clearLine) || strings.Contains(whole, "\n") || strings.Contains(whole, "downloaded") || strings.Contains(whole, "\x1b[3") {
		t.Errorf("got %q", whole)
	}
	broken := shown(t, func(w io.Writer) {
		d := newDownloads(w)
		send(d, append(reports, half...)...)
		d.end()
		d.report(rest)
	})
	if !strings.HasSuffix(broken, clearLine) || strings.Contains(broken, "100%") {
		t.Errorf("got %q", broken)
	}
	t.Setenv("TERM", "dumb")
	if dumb := shown(t, func(w io.Writer) { send(newDownloads(w), half[1]) }); dumb != "downloaded a of org/name, 400.0 kB\r\n" {
		t.Errorf("got %q", dumb)
	}
}

// TestBarGivesWay prints the message of an interrupt on a line of its own.
func TestBarGivesWay(t *testing.T) {
	text := shown(t, func(w io.Writer) {
		s, _ := startHub(t)
		s.Repos[hubModel].Files["config.json"] = []byte(`{"model_type":"llama"}`)
		if status := runProgram(t.Context(), []string{"mlxrank", "rerank", "--model", hubModel, "--query", "q", "d"}, Streams{Out: io.Discard, Err: w}); status != exitFailure {
			t.Errorf("status %d", status)
		}
	})
	if before, message, ok := strings.Cut(text, "mlxrank: "); !ok || !strings.HasSuffix(before, "\x1b[2K\r") || !strings.Contains(message, "llama") {
		t.Errorf("got %q", text)
	}
}
