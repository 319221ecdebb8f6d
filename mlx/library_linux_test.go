package mlx

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const loadInChild = "MLXRANK_TEST_LOAD"

// A test that needs another process to load a library in runs this test there.
func TestLoadInChild(t *testing.T) {
	path := os.Getenv(loadInChild)
	if path == "" {
		return // not the child
	}
	if _, err := Load(path); err != nil {
		t.Fatal(err)
	}
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

// A preloaded version() stands for a libmlx of another version.
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
	alone := filepath.Join(t.TempDir(), libraryFile)
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
