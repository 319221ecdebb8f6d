package fleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPowerLoss cuts the power of the server. Its folder is a file system in an image.
// After kill -9 of the server the test copies the image: what was not synced is in the
// kernel's memory only, and not in the copy, with which the server starts again. All
// that the server acknowledged must be there. It is not there without SyncAlways.
func TestPowerLoss(t *testing.T) {
	if !isLong() {
		t.Skip("mounts a loop device, which needs root: MLXRANK_TEST_LONG=1 runs it")
	}
	t.Run("synced", func(t *testing.T) {
		d := newDisk(t)
		f := newProcessFleet(t, role{Dir: filepath.Join(d.dir, "server")}, nil)
		f.addWorkers(2, role{Delay: 5 * time.Millisecond})
		f.submit(300, Job{MaxDeliver: 20})
		for range 5 {
			f.waitForScored(len(f.scoredParts()) + 20)
			if lost, of := f.losePower(d); lost > 0 || of == 0 {
				t.Errorf("%d of %d acknowledged commits or parts are lost", lost, of)
			}
		}
		f.check()
	})
	t.Run("not synced", func(t *testing.T) {
		d := newDisk(t)
		f := newProcessFleet(t, role{Dir: filepath.Join(d.dir, "server"), Unsynced: true}, nil)
		f.addWorkers(2, role{Delay: 5 * time.Millisecond})
		f.submit(300, Job{MaxDeliver: 20})
		f.waitForScored(20)
		if lost, _ := f.losePower(d); lost == 0 {
			t.Error("nothing is lost without SyncAlways: the test does not see what it is for")
		}
	})
}

// losePower restores the server's disk to what was synced, and starts the server again.
// It returns how many of the commits and queued parts that were acknowledged are lost.
func (f *processFleet) losePower(d *disk) (lost, of int) {
	f.t.Helper()
	client, job := f.client()
	commits, err := client.commitsOf(testContext(f.t), job)
	if err != nil {
		f.t.Fatal(err)
	}
	f.server.signal(os.Kill)
	added := 0
	for _, line := range f.submitter.output() {
		if strings.HasPrefix(line, "added ") {
			added++
		}
	}
	<-f.server.ended
	for _, p := range append(f.workers, f.submitter) {
		p.kill() // so that nothing is written before the count
	}
	d.losePower()
	f.server.start()
	defer func() {
		for _, p := range append(f.workers, f.submitter) {
			p.start()
		}
	}()
	waitFor(f.t, "the server", func() bool { return len(f.server.output()) > 0 || f.server.hasEnded() })
	after, err := client.commitsOf(testContext(f.t), job)
	if err != nil {
		f.t.Logf("after the power failure: %v", err)
		return len(commits), len(commits)
	}
	for part, commit := range commits {
		if after[part].Object != commit.Object {
			lost++
		}
	}
	for part := range added {
		if _, done := after[part]; done {
			continue
		}
		if _, err := client.parts.GetLastMsgForSubject(testContext(f.t), subjectOf(job.ID, part)); err != nil {
			lost++
		}
	}
	f.t.Logf("%d commits and %d queued parts were acknowledged; %d are lost", len(commits), added, lost)
	return lost, len(commits)
}

// A disk is a file system in an image.
type disk struct {
	t          testing.TB
	image, dir string
}

func newDisk(t testing.TB) *disk {
	d := &disk{t, filepath.Join(t.TempDir(), "image"), filepath.Join(t.TempDir(), "disk")}
	d.run("truncate", "-s", "256M", d.image)
	d.run("mkfs.ext4", "-q", "-F", d.image)
	d.run("mkdir", d.dir)
	d.mount()
	t.Cleanup(func() { d.run("umount", "-l", d.dir) })
	return d
}

// mount mounts the image. Without syncing, its file system writes its journal a minute
// later, and data half a minute later.
func (d *disk) mount() { d.run("mount", "-o", "loop,commit=60", d.image, d.dir) }

// losePower forgets what has not been written to the image.
func (d *disk) losePower() {
	d.run("cp", "--sparse=always", d.image, d.image+".copy")
	d.run("umount", d.dir)
	d.run("mv", d.image+".copy", d.image)
	d.mount()
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v: %s (this test needs root and loop devices)", name, strings.Join(args, " "), err, output)
	}
}
