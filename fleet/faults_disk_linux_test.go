package fleet

import (
	"path/filepath"
	"slices"
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
	for range partsOrLong(1, 5) {
		if answer := f.server.say("fill"); answer != "<nil>" {
			t.Fatal(answer)
		}
		before := strings.Count(f.server.errors.String(), "cannot write to its disk")
		waitFor(t, "the server to report the full disk", func() bool {
			return strings.Count(f.server.errors.String(), "cannot write to its disk") > before || slices.Contains(f.submitter.output(), "complete")
		})
		if answer := f.server.say("room"); answer != "<nil>" {
			t.Fatal(answer)
		}
	}
	if f.hasLine("complete") {
		t.Error("the job was complete before the disk was full")
	}
	f.check()
}
