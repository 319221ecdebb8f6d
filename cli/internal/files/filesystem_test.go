package files

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRoots reads what is below two folders, and nothing else. The control reads the
// same paths without roots: what they lead to can be read.
func TestRoots(t *testing.T) {
	outside := write(t, map[string]string{"secret.txt": "secret", "dir/secret.txt": "secret"})
	first := write(t, map[string]string{"a.txt": "a", "sub/b.txt": "b", "sub/deep/c.txt": "c"})
	second := write(t, map[string]string{"d.txt": "d"})
	up, err := filepath.Rel(first, outside)
	if err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"out.txt": filepath.Join(outside, "secret.txt"), "up.txt": filepath.Join(up, "secret.txt"), "outdir": outside, "updir": up,
		"sub/in.txt": "../a.txt", "indir": "sub/deep", "chain.txt": "up.txt", "null.txt": "/dev/null", "absolute.txt": filepath.Join(first, "a.txt"),
	} {
		if err := os.Symlink(target, filepath.Join(first, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(first, "fifo.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	roots := openRoots(t, first, second)
	for pattern, want := range map[string]string{
		first: "a b c", first + "/**/*.txt": "a b c", first + "/sub": "a b c", second: "d", second + "/../" + filepath.Base(second) + "/d.txt": "d",
		first + "/sub/in.txt": "a", first + "/indir": "c", first + "/indir/c.txt": "c", first + "/sub/../a.txt": "a",
	} {
		if pattern == first+"/sub" {
			want = "b c a" // by name: b.txt, deep/c.txt, in.txt
		}
		got, err := readText(t, roots, pattern)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", pattern, got, err, want)
		}
	}
	for _, path := range []string{
		outside + "/secret.txt", first + "/" + up + "/secret.txt", first + "/out.txt", first + "/up.txt", first + "/chain.txt",
		first + "/outdir/secret.txt", first + "/updir/secret.txt", first + "/updir/dir", first + "/outdir", first + "/updir/**/*.txt",
		first + "/sub/../../" + filepath.Base(outside) + "/*.txt", outside + "/**",
	} {
		if got, err := readText(t, roots, path); err == nil {
			t.Errorf("%s: got %q, want an error", path, got)
		}
		if got, err := readText(t, System, path); err != nil || !strings.Contains(got, "secret") {
			t.Errorf("%s: without roots: %q, %v", path, got, err)
		}
	}
	for path, want := range map[string]string{
		"/": "outside the roots", first + "-": "outside the roots", "..": "is relative, and there are 2 roots", first + "/fifo.txt": "not a regular file",
		first + "/null.txt": "escapes", first + "/absolute.txt": "escapes", first + "/none": "no such file",
	} {
		if _, err := readText(t, roots, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if got, err := readText(t, openRoots(t, first), "sub/b.txt"); err != nil || got != "b" {
		t.Errorf("a relative path: %q, %v", got, err)
	}
	for _, path := range []string{"..", "../x", "sub/../../x", "/etc/passwd"} {
		if got, err := openRoots(t, first).Resolve(path); err == nil || !strings.Contains(err.Error(), "outside the roots") {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if _, err := OpenRoots([]string{first, filepath.Join(first, "none")}); err == nil {
		t.Error("a root that is missing")
	}
}

// TestRootByAnotherName finds files by the path of a root with and without links.
func TestRootByAnotherName(t *testing.T) {
	dir, link := write(t, map[string]string{"a.txt": "a"}), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	roots := openRoots(t, link)
	for _, path := range []string{link + "/a.txt", dir + "/a.txt", dir} {
		if got, err := readText(t, roots, path); err != nil || got != "a" {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}

// TestOptions ends at too many files, and at the first text that is not accepted.
func TestOptions(t *testing.T) {
	dir := write(t, map[string]string{"a.txt": "a", "b.txt": "b", "c.txt": "c"})
	if _, _, err := Read(t.Context(), System, []string{dir}, Options{MaxFiles: 2}); err == nil || !strings.Contains(err.Error(), "more than 2 files match") {
		t.Errorf("got %v", err)
	}
	if d, _, err := Read(t.Context(), System, []string{dir, dir + "/a.txt"}, Options{MaxFiles: 3}); err != nil || len(d.List) != 3 {
		t.Errorf("got %+v, %v", d, err)
	}
	var asked []string
	_, _, err := Read(t.Context(), System, []string{dir}, Options{Accept: func(text string) error {
		asked = append(asked, text)
		if text == "b" {
			return os.ErrInvalid
		}
		return nil
	}})
	if err != os.ErrInvalid || strings.Join(asked, " ") != "a b" { //nolint:errorlint // exactly this
		t.Errorf("got %v after %q", err, asked)
	}
}

func openRoots(t *testing.T, paths ...string) *Roots {
	t.Helper()
	roots, err := OpenRoots(paths)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := roots.Close(); err != nil {
			t.Error(err)
		}
	})
	return roots
}

// readText returns the texts that a pattern names, joined by spaces.
func readText(t *testing.T, fsys FileSystem, pattern string) (string, error) {
	t.Helper()
	if roots, ok := fsys.(*Roots); ok {
		var err error
		if pattern, err = roots.Resolve(pattern); err != nil {
			return "", err
		}
	}
	d, _, err := Read(t.Context(), fsys, []string{pattern}, Options{})
	if err != nil {
		return "", err
	}
	var texts []string
	for _, document := range d.List {
		texts = append(texts, document.Text)
	}
	return strings.Join(texts, " "), nil
}
