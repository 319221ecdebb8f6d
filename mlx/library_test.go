package mlx

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func library(t testing.TB) *Library {
	t.Helper()
	l, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoadFindsTheBuildTree(t *testing.T) {
	info := library(t).Info()
	if filepath.Base(info.Path) != LibraryFile || !filepath.IsAbs(info.Path) {
		t.Errorf("path %q, want an absolute one of %s", info.Path, LibraryFile)
	}
	version := regexp.MustCompile(`^\d+\.\d+\.\d+$`)
	for name, got := range map[string]string{"built": info.MLXBuilt, "found": info.MLXFound, "mlx-c": info.MLXC} {
		if !version.MatchString(got) {
			t.Errorf("%s version is %q", name, got)
		}
	}
	if info.ABI != abi || info.CPUs < 1 || info.MLXPath == "" || info.BLAS == "" {
		t.Errorf("incomplete: %+v", info)
	}
}

func TestLoadGivesTheSameLibraryAgain(t *testing.T) {
	a := library(t)
	b, err := Load(a.Info().Path)
	if err != nil || a != b {
		t.Errorf("got %p and %p, error %v", a, b, err)
	}
}

func TestSearchOrder(t *testing.T) {
	t.Setenv(LibraryEnv, "")
	t.Setenv("HOMEBREW_PREFIX", "/brew")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(exe)
	got := candidates("")
	last := -1
	for _, want := range []string{
		filepath.Join(dir, LibraryFile),
		filepath.Join(filepath.Dir(dir), "lib", LibraryFile),
		filepath.Join(filepath.Dir(dir), "lib", "mlxrank", LibraryFile),
		filepath.Join("build", "lib", LibraryFile),
		"/brew/opt/mlxrank/lib/mlxrank/" + LibraryFile,
		"/brew/opt/mlxrank/lib/" + LibraryFile,
	} {
		at := index(got, want)
		if at <= last {
			t.Errorf("%s is at %d, want it after %d in %q", want, at, last, got)
		}
		last = at
	}
	t.Setenv(LibraryEnv, "/from/env.so")
	if got := candidates(""); len(got) != 1 || got[0] != "/from/env.so" {
		t.Errorf("with %s: %q", LibraryEnv, got)
	}
	if got := candidates("/explicit.so"); len(got) != 1 || got[0] != "/explicit.so" {
		t.Errorf("with a path: %q", got)
	}
}

// index returns the index of the first path that ends in suffix, or -1.
func index(paths []string, suffix string) int {
	for i, p := range paths {
		if strings.HasSuffix(p, suffix) {
			return i
		}
	}
	return -1
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	notLibrary := filepath.Join(dir, "text.so")
	if err := os.WriteFile(notLibrary, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger := filepath.Join(dir, "stranger.so")
	compileC(t, "int other(void) { return 0; }", "-shared", "-fPIC", "-o", stranger)
	newer := filepath.Join(dir, "newer.so")
	compileC(t, "int mlxrank_abi(void) { return 99; }", "-shared", "-fPIC", "-o", newer)

	for _, test := range []struct {
		name, path string
		want       []string
		is         error
	}{
		{"missing", filepath.Join(dir, "none.so"), []string{"none.so: no such file", "make build"}, nil},
		{"a folder", dir, []string{"is not a file"}, nil},
		{"not a library", notLibrary, []string{"text.so", "refused"}, nil},
		{"without the symbols", stranger, []string{"stranger.so", "mlxrank_"}, nil},
		{"of another ABI", newer, []string{"newer.so", "ABI 99", "wants " + strconv.Itoa(abi)}, ErrMismatch},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Load(test.path)
			var loadError *LoadError
			if !errors.As(err, &loadError) {
				t.Fatalf("got %v, want a LoadError", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %q is not %q", err, test.is)
			}
		})
	}
}

// Find returns what Load loads, and also what Load would refuse.
func TestFind(t *testing.T) {
	if got, err := Find(""); err != nil || got != library(t).Info().Path {
		t.Errorf("got %q, %v; Load takes %q", got, err, library(t).Info().Path)
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "text.so"), filepath.Join(dir, "link.so")
	if err := errors.Join(os.WriteFile(file, []byte("no library"), 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(link); err != nil || got != file {
		t.Errorf("got %q, %v, want %q", got, err, file)
	}
	t.Setenv(LibraryEnv, filepath.Join(dir, "none.so"))
	var loadError *LoadError
	if got, err := Find(""); !errors.As(err, &loadError) || len(loadError.Tried) != 1 || got != "" {
		t.Errorf("got %q, %v, want a LoadError that has tried one path", got, err)
	}
}

func TestEveryTriedPathIsNamed(t *testing.T) {
	err := &LoadError{Tried: []string{"/a: no such file", "/b: no such file"}}
	for _, want := range []string{LibraryFile, "/a", "/b", LibraryEnv, "make build"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}

func TestDevices(t *testing.T) {
	l := library(t)
	cpu, err := l.Device(CPU)
	if err != nil || cpu.Name == "" {
		t.Errorf("CPU: %+v, %v", cpu, err)
	}
	if l.Info().GPUs == 0 {
		if _, err := l.Device(GPU); !errors.Is(err, ErrNoDevice) {
			t.Errorf("GPU: got %v, want ErrNoDevice", err)
		}
	}
	if _, err := l.Device("tpu"); err == nil || !strings.Contains(err.Error(), "tpu") {
		t.Errorf("tpu: got %v", err)
	}
}

func TestMemoryAndLimits(t *testing.T) {
	l := library(t)
	before, err := l.Memory()
	if err != nil || before.Limit <= 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	if err := l.SetLimits(-1, before.Limit/2); err != nil {
		t.Fatal(err)
	}
	after, err := l.Memory()
	if err != nil || after.Limit != before.Limit/2 {
		t.Errorf("limit %d, want %d (%v)", after.Limit, before.Limit/2, err)
	}
	if err := l.SetLimits(-1, before.Limit); err != nil {
		t.Fatal(err)
	}
	if err := l.Trim(); err != nil {
		t.Fatal(err)
	}
	if trimmed, err := l.Memory(); err != nil || trimmed.Cache != 0 {
		t.Errorf("cache %d after Trim, %v", trimmed.Cache, err)
	}
}
