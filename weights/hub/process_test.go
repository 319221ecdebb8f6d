package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// childEnv makes the test binary a process that pulls the model. Its value is the
// max size of a written file in bytes.
const childEnv = "MLXRANK_HUB_TEST_CHILD"

func TestMain(m *testing.M) {
	if limit := os.Getenv(childEnv); limit != "" {
		if err := child(limit); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(limit string) error {
	bytes, err := strconv.ParseUint(limit, 10, 64)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ) // otherwise a write beyond the limit kills the process
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: bytes}); err != nil {
		return err
	}
	c, err := FromEnvironment()
	if err != nil {
		return err
	}
	c.limits = testLimits
	_, err = c.Pull(context.Background(), Ref{model, DefaultRevision}, PullOptions{})
	return err
}

// process returns a command that pulls the model in a child process.
func process(t *testing.T, s *hubtest.Server, limit int) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	s.Requests() // takes the server's lock, so that the server sees the test's settings
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(limit))
	cmd.Stderr = &stderr
	return cmd, &stderr
}

const unlimited = 1 << 40

// TestProcessesAtOnce pulls the same model in three processes and checks that all
// succeed and each byte is sent once.
func TestProcessesAtOnce(t *testing.T) {
	s, c := start(t)
	s.SetContent(func(http.ResponseWriter, *http.Request, []byte) bool {
		time.Sleep(20 * time.Millisecond) // so that the pulls overlap
		return false
	})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			cmd, stderr := process(t, s, unlimited)
			if err := cmd.Run(); err != nil {
				t.Errorf("%v: %s", err, stderr)
			}
		})
	}
	wg.Wait()
	snapshot, err := c.Find(toRef(t, model))
	if err != nil {
		t.Fatal(err)
	}
	checkSnapshot(t, s, c, snapshot)
	for name, data := range s.Repos[model].Files {
		if got := s.Sent(hubtest.ETag(name, data)); got > int64(len(data)) {
			t.Errorf("%s: %d bytes were sent, want %d", name, got, len(data))
		}
	}
}

// TestWaitsForLock checks that a pull waits while another process holds a blob's
// lock, reports that process's progress, and can be interrupted.
func TestWaitsForLock(t *testing.T) {
	s, c := start(t)
	other, err := c.lock(t.Context(), model, weightsTag(), func() {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen int64
	_, err = c.Pull(ctx, toRef(t, model), PullOptions{Progress: func(p Progress) {
		switch {
		case p.File != weightsFile:
		case p.Done == 0:
			writeFile(t, blobPath(c)+incomplete, make([]byte, 777)) // the other process's bytes
		default:
			seen = p.Done
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || seen != 777 {
		t.Errorf("%v, %d bytes seen", err, seen)
	}
	done := make(chan error)
	go func() {
		_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("the pull did not wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	// The other process removes the lock file, as `model remove` does, and exits.
	if err := errors.Join(os.Remove(c.lockPath(model, weightsTag())), other.Close(), <-done); err != nil {
		t.Fatal(err)
	}
	pullModel(t, s, c, model)
}

// TestKilled kills the process repeatedly and checks that no broken file is ever
// visible and that the last run completes the model.
func TestKilled(t *testing.T) {
	s, c := start(t)
	s.SetContent(func(http.ResponseWriter, *http.Request, []byte) bool {
		time.Sleep(5 * time.Millisecond)
		return false
	})
	kills := 0
	for delay := 20 * time.Millisecond; delay < 140*time.Millisecond; delay += 15 * time.Millisecond {
		cmd, stderr := process(t, s, unlimited)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		var exit *exec.ExitError
		switch {
		case errors.As(err, &exit) && !exit.Exited():
			kills++
		case err != nil:
			t.Fatalf("%v: %s", err, stderr)
		}
		checkNoBrokenBlobs(t, c)
		if snapshot, err := c.Find(toRef(t, model)); err == nil {
			checkSnapshot(t, s, c, snapshot)
		}
	}
	if kills == 0 {
		t.Error("no process was killed")
	}
	pullModel(t, s, c, model)
}

// TestFileSizeLimit limits a process to a part of the weights. The error must name
// the full disk, no broken file may remain, and a later pull uses the bytes.
func TestFileSizeLimit(t *testing.T) {
	s, c := start(t)
	cmd, stderr := process(t, s, partSize/2)
	if err := cmd.Run(); err == nil {
		t.Fatal("the pull succeeded despite the file size limit")
	}
	wantError(t, errors.New(stderr.String()), "model.safetensors", "is full", filepath.Dir(c.repo(model)))
	checkNoBrokenBlobs(t, c)
	b := blob{c: c, path: blobPath(c)}
	kept, err := b.have()
	if err != nil || kept == 0 {
		t.Errorf("%d bytes are kept, %v", kept, err)
	}
	s.Forget()
	pullModel(t, s, c, model)
	if got := s.Sent(weightsTag()); got != weightsSize-kept {
		t.Errorf("%d bytes were sent, want %d", got, weightsSize-kept)
	}
}
