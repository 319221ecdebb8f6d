package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/internal/bundle/bundletest"
)

// TestReadOnly checks that nothing is written into an app if only a part of it
// is writable. The thread changes its file system user, which Linux keeps for
// each thread, so that the test works for root too.
func TestReadOnly(t *testing.T) {
	fixtures := bundletest.Open(t, "testdata")
	app := fixtures.App(t, "Foo.app", "program/linked", "14.0")
	contents := filepath.Join(app, "Contents")
	for _, folder := range []string{"Frameworks", "Resources"} {
		if err := os.Mkdir(filepath.Join(contents, folder), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	// The folder of the libraries is writable; the folder that is written next is not.
	if err := errors.Join(os.Chmod(filepath.Join(contents, "Frameworks"), 0o777), os.Chmod(filepath.Join(contents, "Resources"), 0o555)); err != nil {
		t.Fatal(err)
	}
	before := tree(t, app)
	prefix := fixtures.Prefix(t)
	openAbove(t, app)
	openAbove(t, prefix)
	var err error
	asNobody(t, func() { _, err = put(t, app, prefix, false) })
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), app) {
		t.Errorf("got %v", err)
	}
	sameTree(t, tree(t, app), before)
}

// asNobody calls f as a user without files.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if os.Getuid() != 0 {
		f()
		return
	}
	const nobody = 65534
	if _, err := unix.SetfsuidRetUid(nobody); err != nil {
		t.Fatal(err)
	}
	f()
	if _, err := unix.SetfsuidRetUid(0); err != nil {
		t.Fatal(err)
	}
}

// openAbove makes the temporary folders above a path readable for everyone.
func openAbove(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
