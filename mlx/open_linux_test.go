package mlx

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOpenSharedThatRaises opens a library that raises SIGINT while it is loaded,
// as OpenBLAS does without threads. That must be an error and not reach the
// program as the user's interrupt.
func TestOpenSharedThatRaises(t *testing.T) {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, unix.SIGINT)
	defer signal.Stop(interrupts)
	for source, raises := range map[string]bool{
		"#include <signal.h>\n__attribute__((constructor)) static void load(void) { raise(SIGINT); }\n": true,
		"int answer(void) { return 42; }\n": false,
	} {
		err := openOnThread(t, buildShared(t, source))
		if raised := errors.Is(err, errThreads); raised != raises || err != nil && !strings.Contains(err.Error(), "limit on processes and threads") {
			t.Errorf("raises %v: %v", raises, err)
		}
		select {
		case <-interrupts:
			t.Errorf("raises %v: taken for an interrupt of the user", raises)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-interrupts:
	case <-time.After(time.Minute):
		t.Error("an interrupt of the user is not seen afterwards")
	}
}

func openOnThread(t *testing.T, file string) (err error) {
	t.Helper()
	thread := newThread()
	defer thread.close()
	if closed := thread.do(func() { _, err = openShared(file) }); closed != nil {
		t.Fatal(closed)
	}
	return err
}

func buildShared(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "library.c"), filepath.Join(dir, "library.so")
	if err := os.WriteFile(from, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-o", to, from).CombinedOutput(); err != nil {
		t.Fatalf("cc on %s: %v\n%s", runtime.GOARCH, err, out)
	}
	return to
}
