package mlx

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const loadInChild = "MLXRANK_TEST_LOAD"

// Other tests run this one in a child process, to load a library there.
func TestLoadInChild(t *testing.T) {
	path := os.Getenv(loadInChild)
	if path == "" {
		return // not the child
	}
	l, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("metallib %q\n", l.Info().Metallib)
}

func loadElsewhere(t *testing.T, path string, env ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe, "-test.run=^TestLoadInChild$")
	child.Env = append(append(os.Environ(), loadInChild+"="+path), env...)
	out, err := child.CombinedOutput()
	return string(out), err
}

func TestLoadElsewhereWorks(t *testing.T) {
	if out, err := loadElsewhere(t, library(t).Info().Path); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A preloaded version() acts as a libmlx of another version.
func TestOtherMLXVersionIsRefused(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.so")
	compileC(t, `const char *_ZN3mlx4core7versionEv(void) { return "0.31.0"; }`, "-shared", "-fPIC", "-o", other)
	info := library(t).Info()
	out, err := loadElsewhere(t, info.Path, "LD_PRELOAD="+other)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{"compiled against MLX " + info.MLXBuilt, "found MLX 0.31.0"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

func TestMissingLibmlxIsNamed(t *testing.T) {
	alone := filepath.Join(t.TempDir(), LibraryFile)
	copyFile(t, library(t).Info().Path, alone)
	out, err := loadElsewhere(t, alone)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{"libmlx.so", alone, "make build"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

// An app bundle has libraries in Frameworks and the metallib in Resources.
func TestBundledMetallibIsFound(t *testing.T) {
	contents := t.TempDir()
	frameworks, resources := filepath.Join(contents, "Frameworks"), filepath.Join(contents, "Resources")
	for _, dir := range []string{frameworks, resources} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	built := filepath.Dir(library(t).Info().Path)
	files, err := os.ReadDir(built)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		copyFile(t, filepath.Join(built, file.Name()), filepath.Join(frameworks, file.Name()))
	}
	metallib := filepath.Join(resources, "mlx.metallib")
	expect := func(want string) {
		t.Helper()
		out, err := loadElsewhere(t, filepath.Join(frameworks, LibraryFile))
		if err != nil || !strings.Contains(out, fmt.Sprintf("metallib %q\n", want)) {
			t.Errorf("want metallib %q: %v\n%s", want, err, out)
		}
	}
	expect("")
	if err := os.WriteFile(metallib, []byte("MTLB"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(metallib)
	// MLX itself finds one beside libmlx.
	if err := os.WriteFile(filepath.Join(frameworks, "mlx.metallib"), []byte("MTLB"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
