package fleet

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk has another program fill the server's disk in the middle of a job. The
// job goes on when there is room again.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "disk")
	f := newProcessFleet(t, role{Dir: dir, Tmpfs: "size=64m", Ballast: filepath.Join(dir, "ballast")}, inNamespaces(syscall.CLONE_NEWNS))
	f.addWorkers(2, role{})
	f.submit(partsOrLong(60, 400), Job{})
	f.submitter.waitForLine("received 2")
	for i := range partsOrLong(1, 5) {
		if answer := f.server.say("fill"); answer != "<nil>" {
			t.Fatal(answer)
		}
		waitFor(t, "the server to report the full disk", func() bool {
			return strings.Count(f.server.errors.String(), "cannot write to its disk") > i || f.isComplete()
		})
		if answer := f.server.say("room"); answer != "<nil>" {
			t.Fatal(answer)
		}
		waitFor(t, "the server to start again", func() bool {
			return strings.Count(f.server.errors.String(), startedAgain) > i || f.isComplete()
		})
	}
	if f.isComplete() {
		t.Error("the job was complete before the disk was full")
	}
	f.check()
}

// TestFullDiskRemovals removes keys on a full disk and writes nothing else, for which NATS
// 2.15.3 waits for itself. The removals succeed when there is room again.
func TestFullDiskRemovals(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "disk")
	f := newProcessFleet(t, role{Dir: dir, Tmpfs: "size=64m", Ballast: filepath.Join(dir, "ballast")}, inNamespaces(syscall.CLONE_NEWNS))
	client := connect(t, f.url)
	bucket := client.bucket(failuresBucket)
	const keys = 400
	for i := range keys {
		if _, err := bucket.Put(testContext(t), keyOf("job", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if answer := f.server.say("fill"); answer != "<nil>" {
		t.Fatal(answer)
	}
	removed := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < keys && err == nil; i++ {
			err = client.forget(testContext(t), failuresBucket, keyOf("job", i))
		}
		removed <- err
	}()
	waitFor(t, "the server to report the full disk", func() bool {
		return strings.Contains(f.server.errors.String(), "cannot write to its disk") || len(removed) > 0
	})
	if len(removed) > 0 {
		t.Fatalf("the removals ended on a full disk: %v", <-removed)
	}
	if answer := f.server.say("room"); answer != "<nil>" {
		t.Fatal(answer)
	}
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	if left, err := bucket.ListKeys(testContext(t)); err != nil {
		t.Fatal(err)
	} else if key, found := <-left.Keys(); found {
		t.Errorf("key %s is there, expected none", key)
	}
}
