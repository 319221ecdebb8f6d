package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// instrumented builds the library with a sanitizer and returns a tree with it.
func instrumented(t *testing.T, flags, env []string) tree {
	t.Helper()
	plain, own := built(t), tree{t.TempDir()}
	if err := os.Mkdir(own.lib(), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{own.include(): plain.include(), filepath.Join(own.lib(), "mlxrank"): filepath.Join(plain.lib(), "mlxrank")} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", slices.Concat([]string{"build", "-trimpath", "-buildmode=c-shared", "-o", own.library()}, flags, []string{"./capi"})...)
	build.Dir = repository(t)
	build.Env = append(os.Environ(), env...)
	run(t, build)
	return own
}

// -asan also instruments Go's writes to the host's memory.
func TestAddressSanitizer(t *testing.T) {
	in, model := instrumented(t, []string{"-asan"}, nil), tinyModel(t)
	flags := []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all"}
	silent(t, exec.Command(compile(t, in, []string{"cc"}, "programs/api.c", flags...), model))
	silent(t, exec.Command(compile(t, in, []string{"cc"}, "programs/threads.c", flags...), model, "10"))
	silent(t, exec.Command(compile(t, in, []string{"c++"}, "programs/host.cpp", flags...), model))
	// Negative control: a host that passes more room than it has.
	out, err := exec.Command(compile(t, in, []string{"cc"}, "programs/overrun.c", flags...), model).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "heap-buffer-overflow") {
		t.Errorf("a write beyond the host's buffer is not detected: %v\n%s", err, out)
	}
}

// ThreadSanitizer checks the host's threads. The race detector checks Go's side in
// other tests.
func TestThreadSanitizer(t *testing.T) {
	if times(0, 1) == 0 {
		t.Skip("make test-long runs it")
	}
	in, model := instrumented(t, nil, []string{"CGO_CFLAGS=-O1 -g -fsanitize=thread", "CGO_LDFLAGS=-fsanitize=thread"}), tinyModel(t)
	program := compile(t, in, []string{"cc"}, "programs/threads.c", "-fsanitize=thread")
	suppressions, err := filepath.Abs("programs/tsan.supp")
	if err != nil {
		t.Fatal(err)
	}
	threads := func(args ...string) *exec.Cmd {
		c := exec.Command(program, slices.Concat([]string{model}, args)...)
		c.Env = append(os.Environ(), "TSAN_OPTIONS=suppressions="+suppressions)
		return c
	}
	silent(t, threads("20"))
	// Negative control: threads that count without a lock.
	out, err := threads("1", "race").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "data race") {
		t.Errorf("a race is not detected: %v\n%s", err, out)
	}
}
