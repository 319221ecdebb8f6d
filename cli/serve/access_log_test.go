package serve

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
			synctest.Wait() // for the writer of the line before
			time.Sleep(2 * lookTime)
			if n, err := w.Write([]byte(text + "\n")); n != len(text)+1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		rename := func(from, to string) {
			t.Helper()
			synctest.Wait()
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
		for range 3 { // within lookTime, in which the name is not looked at
			if _, err := w.Write([]byte("lost too\n")); err != nil {
				t.Error(err)
			}
		}
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

// A reader of the standard output that reads nothing delays no request, and no end.
func TestAccessLogWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, out := io.Pipe()
		w, stop, err := openAccessLog("-", command.Streams{Out: out}, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 * waitingLines {
			if _, err := w.Write([]byte("line\n")); err != nil {
				t.Fatal(err)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if text := log.String(); strings.Count(text, "its lines are lost") != 1 || strings.Count(text, "last lines") != 1 || strings.Count(text, "\n") != 2 {
			t.Errorf("the log: %s", text)
		}
		if err := r.Close(); err != nil { // which ends the writer
			t.Error(err)
		}
	})
}

// A cutter writes part of its first line, as to a disk that is full then.
type cutter struct{ bytes.Buffer }

func (c *cutter) Write(line []byte) (int, error) {
	if c.Len() == 0 {
		n, _ := c.Buffer.Write(line[:3])
		return n, syscall.ENOSPC
	}
	return c.Buffer.Write(line)
}

func TestAccessLogOfFullDisk(t *testing.T) {
	var log bytes.Buffer
	var out cutter
	w, stop, err := openAccessLog("-", command.Streams{Out: &out}, zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"first\n", "second\n", "third\n"} {
		if _, err := io.WriteString(w, line); err != nil {
			t.Error(err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if text := out.String(); text != "fir\nsecond\nthird\n" {
		t.Errorf("%q", text)
	}
	if text := log.String(); strings.Count(text, "cannot be written") != 1 || strings.Count(text, "written again") != 1 {
		t.Errorf("the log: %s", text)
	}
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
