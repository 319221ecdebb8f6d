package serve

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The access log goes on in a new file after logrotate has renamed the old one. While it
// cannot, lines are lost and the log has one warning.
func TestAccessLogRotates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "access.log")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		w, stop, err := openAccessLog(path, command.Streams{}, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		line := func(text string) {
			t.Helper()
			time.Sleep(2 * lookTime)
			if n, err := w.Write([]byte(text + "\n")); n != len(text)+1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		rename := func(from, to string) {
			t.Helper()
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		line("one")
		rename(path, path+".1")
		line("two")
		line("three")
		rename(dir, dir+".away")
		line("lost")
		line("lost too")
		rename(dir+".away", dir)
		line("four")
		if err := stop(); err != nil {
			t.Error(err)
		}
		if old, now := read(t, path+".1"), read(t, path); old != "one\n" || now != "two\nthree\nfour\n" {
			t.Errorf("%q, then %q", old, now)
		}
		if text := log.String(); strings.Count(text, "cannot be written") != 1 || strings.Count(text, "written again") != 1 || strings.Count(text, "\n") != 2 {
			t.Errorf("the log: %s", text)
		}
	})
}

// Where there is no access log, nothing is opened; a file that cannot be opened ends the
// start.
func TestAccessLogErrors(t *testing.T) {
	if w, stop, err := openAccessLog("", command.Streams{}, zerolog.Nop()); w != nil || err != nil || stop() != nil {
		t.Errorf("%v, %v", w, err)
	}
	path := filepath.Join(t.TempDir(), "none", "access.log")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--model", clitest.TinyModel(t), "--listen", "127.0.0.1:0", "--access-log", path), command.ExitFailure, "access log", path, "--access-log")
}
