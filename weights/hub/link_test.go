package hub

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
)

// withoutLinks makes symbolic links fail, as on a file system without them.
func withoutLinks(t *testing.T, err error) {
	t.Helper()
	symlink = func(old, path string) error { return &os.LinkError{Op: "symlink", Old: old, New: path, Err: err} }
	t.Cleanup(func() { symlink = os.Symlink })
}

// checkCopies checks a snapshot whose files are not links.
func checkCopies(t *testing.T, s *hubtest.Server, c *Client, snapshot Snapshot) {
	t.Helper()
	if len(snapshot.Files) != len(wanted) {
		t.Errorf("%d files, want %d", len(snapshot.Files), len(wanted))
	}
	for _, f := range snapshot.Files {
		data := readFile(t, filepath.Join(snapshot.Dir, f.Name))
		if f.Blob != "" || !bytes.Equal(data, s.Repos[snapshot.Model].Files[f.Name]) {
			t.Errorf("%s: blob %q, %d bytes", f.Name, f.Blob, len(data))
		}
		if err := c.VerifyFile(t.Context(), snapshot, f); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	checkNoLeftovers(t, c)
}

// TestWithoutLinks checks that files are stored in the snapshot if the file
// system has no symbolic links, as huggingface_hub does.
func TestWithoutLinks(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T){
		"vfat":                   func(t *testing.T) { withoutLinks(t, unix.EPERM) },
		"network file system":    func(t *testing.T) { withoutLinks(t, unix.EOPNOTSUPP) },
		"user space file system": func(t *testing.T) { withoutLinks(t, unix.ENOSYS) },
		"variable":               func(t *testing.T) { t.Setenv("HF_HUB_DISABLE_SYMLINKS", "1") },
		"quiet": func(t *testing.T) {
			withoutLinks(t, unix.EPERM)
			t.Setenv("HF_HUB_DISABLE_SYMLINKS_WARNING", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := start(t)
			prepare(t)
			var warnings []string
			snapshot, err := c.Pull(t.Context(), toRef(t, model), PullOptions{Warn: func(text string) { warnings = append(warnings, text) }})
			if err != nil {
				t.Fatal(err)
			}
			checkCopies(t, s, c, snapshot)
			if blobs := walk(t, filepath.Join(c.repo(model), "blobs")); len(blobs) > 0 {
				t.Errorf("blobs %q, want none", blobs)
			}
			want := 1
			if name == "variable" || name == "quiet" {
				want = 0
			}
			if len(warnings) != want || want > 0 && !strings.Contains(warnings[0], "cannot make symbolic links in "+c.cache) {
				t.Errorf("warnings %q, want %d", warnings, want)
			}
			s.Forget()
			warnings = nil
			again, err := c.Pull(t.Context(), toRef(t, model), PullOptions{Warn: func(text string) { warnings = append(warnings, text) }})
			if err != nil || again.Dir != snapshot.Dir || s.Sent(weightsTag()) > 0 || len(warnings) > 0 {
				t.Errorf("again: %v, %d bytes, warnings %q", err, s.Sent(weightsTag()), warnings)
			}
			weights := filepath.Join(snapshot.Dir, weightsFile)
			data := readFile(t, weights)
			data[7] ^= 1
			writeFile(t, weights, data)
			wantError(t, c.VerifyFile(t.Context(), snapshot, File{Name: weightsFile}), "wrong SHA-256", weightsTag())
			removed, err := c.Remove(toRef(t, model))
			if err != nil || removed.Copies != len(wanted) || removed.Bytes != snapshot.Size() || !removed.All {
				t.Errorf("removed %+v, %v", removed, err)
			}
		})
	}
}

// TestLinksDisabledLater pulls a version without links into a cache with links. The
// blobs that other versions link to must remain.
func TestLinksDisabledLater(t *testing.T) {
	s, c := start(t)
	old := pullModel(t, s, c, model)
	files := modelFiles()
	files["config.json"] = []byte(`{"model_type":"bert","x":1}`)
	s.Add(model, files)
	withoutLinks(t, unix.EPERM)
	s.Forget()
	fresh, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	if err != nil || fresh.Commit == old.Commit || s.Sent(weightsTag()) > 0 {
		t.Fatalf("%v, %d bytes of weights", err, s.Sent(weightsTag()))
	}
	checkCopies(t, s, c, fresh)
	if _, err := c.Find(Ref{model, old.Commit}); err != nil {
		t.Errorf("the older version: %v", err)
	}
	// With links again, nothing is fetched and copies remain copies.
	symlink = os.Symlink
	if _, err := c.Pull(t.Context(), toRef(t, model), PullOptions{}); err != nil {
		t.Fatal(err)
	}
	checkCopies(t, s, c, fresh)
}

// TestCopiedCache verifies and uses a copy of a cache made by cp -rL.
func TestCopiedCache(t *testing.T) {
	s, c := start(t)
	pullModel(t, s, c, model)
	copied := filepath.Join(t.TempDir(), "copied")
	if out, err := exec.Command("cp", "-rL", c.Cache(), copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("HF_HUB_CACHE", copied)
	c = newClient(t)
	snapshot, err := c.Find(toRef(t, model))
	if err != nil {
		t.Fatal(err)
	}
	checkCopies(t, s, c, snapshot)
	// Without the blobs the hashes are unknown until a request to the hub.
	if err := os.RemoveAll(filepath.Join(c.repo(model), "blobs")); err != nil {
		t.Fatal(err)
	}
	for _, f := range snapshot.Files {
		if err := c.VerifyFile(t.Context(), snapshot, f); !errors.Is(err, ErrNoHash) {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	s.Forget()
	if _, err := c.Pull(t.Context(), toRef(t, model), PullOptions{}); err != nil || s.Sent(weightsTag()) > 0 {
		t.Errorf("%v, %d bytes of weights", err, s.Sent(weightsTag()))
	}
	checkCopies(t, s, c, snapshot)
}

func withoutFlock(t *testing.T, err error) {
	t.Helper()
	tryFlock = func(*flock.Flock) (bool, error) { return false, err }
	t.Cleanup(func() { tryFlock = (*flock.Flock).TryLock })
}

// TestWithoutFlock checks that the existence of the lock file is the lock if flock
// fails, as in Python's filelock package.
func TestWithoutFlock(t *testing.T) {
	for _, reason := range []error{unix.ENOSYS, unix.ENOLCK, unix.EOPNOTSUPP} {
		t.Run(reason.Error(), func(t *testing.T) {
			s, c := start(t)
			withoutFlock(t, reason)
			results := make(chan error)
			for range 3 {
				go func() {
					own, err := FromEnvironment()
					if err == nil {
						own.limits = testLimits
						_, err = own.Pull(t.Context(), toRef(t, model), PullOptions{})
					}
					results <- err
				}()
			}
			if err := errors.Join(<-results, <-results, <-results); err != nil {
				t.Fatal(err)
			}
			if got := s.Sent(weightsTag()); got != weightsSize {
				t.Errorf("%d bytes of weights, want %d: they were fetched more than once", got, weightsSize)
			}
			pullModel(t, s, c, model)
			for _, path := range walk(t, filepath.Join(c.Cache(), ".locks")) {
				t.Errorf("left over: %s", path)
			}
		})
	}
	withoutFlock(t, unix.EIO)
	_, c := start(t)
	_, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
	wantError(t, err, "lock "+filepath.Join(c.Cache(), ".locks"), "input/output")
}

// TestStaleMarkers checks that a pull waits only for a download that is running.
func TestStaleMarkers(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	dead, live := strconv.Itoa(ended.Process.Pid), strconv.Itoa(os.Getpid())
	for _, test := range []struct {
		name, text string
		age        time.Duration
		free       bool
	}{
		{"a live process", live + "\n" + hostName() + "\n", time.Hour, false},
		{"a live process with its start", live + "\n" + hostName() + "\n77\n", time.Hour, false},
		{"process that has ended", dead + "\n" + hostName() + "\n", 0, true},
		{"process on another machine", dead + "\nelsewhere\n", time.Hour, false},
		{"being written", "", 0, false},
		{"half written", "12", 0, false},
		{"stale", "", time.Hour, true},
		{"stale, of another kind", "something else", time.Hour, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			withoutFlock(t, unix.ENOSYS)
			path := filepath.Join(t.TempDir(), "x.lock")
			writeFile(t, path, []byte(test.text))
			past := time.Now().Add(-test.age)
			if err := os.Chtimes(path, past, past); err != nil {
				t.Fatal(err)
			}
			if lock, err := tryLock(path); lock != nil || err != nil {
				t.Fatalf("the lock was taken at once: %v, %v", lock, err)
			}
			lock, err := tryLock(path)
			if err != nil || (lock != nil) != test.free {
				t.Fatalf("lock %v, %v, want one: %v", lock, err, test.free)
			}
			if lock == nil {
				return
			}
			if pid, host, ok := parseMarker(string(readFile(t, path))); pid != os.Getpid() || host != hostName() || !ok {
				t.Errorf("marker %q", readFile(t, path))
			}
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the marker remains: %v", err)
			}
		})
	}
}

// mirror makes the hub answer like servers that store files under other names:
// no redirects, and one ETag header.
func mirror(s *hubtest.Server, etag func(data []byte) string, damage func([]byte) []byte) {
	s.Bare = true
	s.SetHub(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/resolve/") {
			return false
		}
		data := s.Repos[model].Files[filepath.Base(r.URL.Path)]
		w.Header().Set("ETag", etag(data))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(damage(data)))
		return true
	})
}

func toHex(sum []byte) string { return hex.EncodeToString(sum) }

func TestMirrorETags(t *testing.T) {
	intact := func(data []byte) []byte { return data }
	spoil := func(data []byte) []byte {
		data = bytes.Clone(data)
		data[0] ^= 1
		return data
	}
	sha1Of := func(data []byte) string { sum := sha1.Sum(data); return toHex(sum[:]) }
	md5Of := func(data []byte) string { sum := md5.Sum(data); return toHex(sum[:]) }
	for _, test := range []struct {
		name    string
		etag    func([]byte) string
		checked bool // whether VerifyFile can compare the bytes with the ETag
		fails   string
	}{
		{"SHA-1", func(data []byte) string { return `"` + sha1Of(data) + `"` }, true, "wrong git blob id"},
		{"weak", func(data []byte) string { return `W/"` + sha1Of(data) + `"` }, true, "wrong git blob id"},
		{"MD5", func(data []byte) string { return `"` + md5Of(data) + `"` }, true, ""},
		{"32 digits that are no hash", func(data []byte) string { return `"` + md5Of(append(data, 'x')) + `"` }, false, ""},
		{"hash of parts", func(data []byte) string { return `"` + md5Of(data) + `-12"` }, false, ""},
		{"time and size", func(data []byte) string { return `"5f3a1b2c-` + strconv.Itoa(len(data)) + `"` }, false, ""},
		{"unquoted", func(data []byte) string { return "v1." + strconv.Itoa(len(data)) }, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, c := start(t)
			mirror(s, test.etag, intact)
			snapshot, err := c.Pull(t.Context(), toRef(t, model), PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range snapshot.Files {
				if data := readFile(t, filepath.Join(snapshot.Dir, f.Name)); !bytes.Equal(data, s.Repos[model].Files[f.Name]) {
					t.Errorf("%s differs", f.Name)
				}
				err := c.VerifyFile(t.Context(), snapshot, f)
				if test.checked && err != nil || !test.checked && !errors.Is(err, ErrNoHash) {
					t.Errorf("%s: %v", f.Name, err)
				}
			}
			// Damage is detected if the ETag is certainly a hash of the bytes, or if
			// the mirror forwards the hub's list of files.
			s, c = start(t)
			mirror(s, test.etag, spoil)
			_, err = c.Pull(t.Context(), toRef(t, model), PullOptions{})
			if test.fails != "" {
				wantError(t, err, test.fails, "damaged")
			} else if err != nil {
				t.Errorf("without a hash to compare with: %v", err)
			}
			s, c = start(t)
			mirror(s, test.etag, spoil)
			s.Bare = false
			_, err = c.Pull(t.Context(), toRef(t, model), PullOptions{})
			wantError(t, err, "damaged")
		})
	}
}
