package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// times returns how often a test repeats: few times, or many in make test-long.
func times(few, many int) int {
	if os.Getenv("MLXRANK_TEST_LONG") != "" {
		return many
	}
	return few
}

// A built tree has the library as installed.
type tree struct{ root string }

func (t tree) include() string { return filepath.Join(t.root, "include") }
func (t tree) lib() string     { return filepath.Join(t.root, "lib") }

func (t tree) library() string {
	if runtime.GOOS == "darwin" {
		return filepath.Join(t.lib(), "libmlxr.dylib")
	}
	return filepath.Join(t.lib(), "libmlxr.so")
}

func repository(t testing.TB) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func built(t testing.TB) tree {
	t.Helper()
	tree := tree{filepath.Join(repository(t), "build", "capi")}
	if _, err := os.Stat(tree.library()); err != nil {
		t.Fatalf("%v: run `make capi`", err)
	}
	return tree
}

func tinyModel(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(64, 2, 2), Seed: 7})
	return dir
}

// clang returns the compiler: zig's on Linux, the system's on macOS.
func clang(t testing.TB, language string) []string {
	t.Helper()
	if runtime.GOOS == "darwin" {
		return []string{map[string]string{"c": "clang", "c++": "clang++"}[language]}
	}
	zig := filepath.Join(repository(t), "build", "darwin", "zig", "ziglang", "zig")
	if _, err := os.Stat(zig); err != nil {
		t.Fatalf("%v: run `python3 scripts/setup.py clang`", err)
	}
	return []string{zig, map[string]string{"c": "cc", "c++": "c++"}[language], "-target", "x86_64-linux-gnu.2.36"}
}

// systemCxx returns the flags by which clang++ uses the C++ library of c++.
func systemCxx(t testing.TB) []string {
	t.Helper()
	if runtime.GOOS == "darwin" {
		return nil
	}
	_, list, _ := strings.Cut(run(t, exec.Command("c++", "-E", "-v", "-x", "c++", os.DevNull)), "#include <...> search starts here:\n")
	list, _, found := strings.Cut(list, "End of search list.")
	if !found {
		t.Fatalf("c++ -v lists no folders of headers")
	}
	flags := []string{"-nostdinc++", "-nostdlib++"}
	for _, dir := range strings.Fields(list) {
		switch {
		case strings.Contains(dir, "/c++/"):
			flags = append(flags, "-isystem", dir)
		case !strings.Contains(dir, "/gcc/"): // those are for GCC only
			flags = append(flags, "-idirafter", dir)
		}
	}
	for _, library := range []string{"libstdc++.so.6", "libgcc_s.so.1"} {
		flags = append(flags, strings.TrimSpace(run(t, exec.Command("c++", "-print-file-name="+library))))
	}
	return flags
}

// zigged sets the environment that keeps zig's caches in the build folder.
func zigged(t testing.TB, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	cache := filepath.Join(repository(t), "build", "darwin", "zig-cache")
	c.Env = append(os.Environ(), "ZIG_GLOBAL_CACHE_DIR="+cache, "ZIG_LOCAL_CACHE_DIR="+cache)
	return c
}

var warnings = map[string][]string{
	"c":   {"-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"},
	"c++": {"-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1"},
}

// compile builds a program and links it with the tree's library.
func compile(t testing.TB, in tree, compiler []string, source string, flags ...string) string {
	t.Helper()
	language := "c"
	if filepath.Ext(source) == ".cpp" {
		language = "c++"
	}
	program := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(source), filepath.Ext(source)))
	args := slices.Concat(compiler[1:], warnings[language], flags,
		[]string{"-I", in.include(), "-o", program, source, "-L", in.lib(), "-lmlxr", "-lpthread", "-Wl,-rpath," + in.lib()})
	run(t, zigged(t, exec.Command(compiler[0], args...)))
	return program
}

// run expects success and returns the output.
func run(t testing.TB, c *exec.Cmd) string {
	t.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c.Args, err, out)
	}
	return string(out)
}

// silent expects success and no output.
func silent(t testing.TB, c *exec.Cmd) {
	t.Helper()
	if out := run(t, c); out != "" {
		t.Errorf("%v printed:\n%s", c.Args, out)
	}
}

func TestHeaderHasTheVersion(t *testing.T) {
	header, err := os.ReadFile("../mlxr.h")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("#define MLXR_VERSION %q\n", engine.Version); !strings.Contains(string(header), want) {
		t.Errorf("mlxr.h lacks %q", want)
	}
}

func TestEveryCall(t *testing.T) {
	model := tinyModel(t)
	for name, compiler := range map[string][]string{"cc": {"cc"}, "clang": clang(t, "c")} {
		t.Run(name, func(t *testing.T) {
			silent(t, exec.Command(compile(t, built(t), compiler, "programs/api.c"), model))
		})
	}
}

func TestFromCxx(t *testing.T) {
	model := tinyModel(t)
	compilers := map[string][]string{"c++": {"c++"}, "clang++": append(clang(t, "c++"), systemCxx(t)...)}
	if times(0, 1) == 1 { // zig builds libc++ from source
		compilers["clang++ with its own library"] = clang(t, "c++")
	}
	for name, compiler := range compilers {
		t.Run(name, func(t *testing.T) {
			silent(t, exec.Command(compile(t, built(t), compiler, "programs/host.cpp"), model))
		})
	}
}

// The header compiles alone, with the strictest warnings, as C and as C++.
func TestHeaderStandsAlone(t *testing.T) {
	in, dir := built(t), t.TempDir()
	source := filepath.Join(dir, "header.c")
	if err := os.WriteFile(source, []byte("#include <mlxr.h>\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for language, standards := range map[string][]string{"c": {"c99", "c17"}, "c++": {"c++11", "c++20"}} {
		for _, standard := range standards {
			args := append(clang(t, language), "-x", language, "-std="+standard, "-Weverything", "-Werror",
				"-Wno-c++98-compat", "-Wno-padded", "-Wno-unsafe-buffer-usage", "-Wno-declaration-after-statement",
				"-Wno-unused-command-line-argument", "-Wno-poison-system-directories", "-Wno-zero-as-null-pointer-constant",
				"-Wno-pre-c11-compat", "-Wno-unused-macros", "-Wno-unused-function", "-I", in.include(), "-c", "-o", filepath.Join(dir, "o"), source)
			run(t, zigged(t, exec.Command(args[0], args[1:]...)))
		}
	}
}

func TestThreads(t *testing.T) {
	silent(t, exec.Command(compile(t, built(t), []string{"cc"}, "programs/threads.c"), tinyModel(t), "30"))
}

// A host may call exit() while calls run, from any thread and callback, on either
// graph: no destructor runs while a worker computes.
func TestExitInTheMiddle(t *testing.T) {
	program := compile(t, built(t), []string{"cc"}, "programs/exit.c")
	for _, unfused := range []bool{false, true} {
		for i := range times(8, 26) {
			who := []string{"main", "thread", "log", "progress"}[i%4]
			c := exec.Command(program, "builtin", who, strconv.Itoa(37*i%400))
			c.Env = os.Environ()
			if unfused {
				c.Env = append(c.Env, "MLXRANK_UNFUSED_GRAPH=1")
			}
			out, err := c.CombinedOutput()
			if c.ProcessState == nil || c.ProcessState.ExitCode() != 7 || len(out) > 0 {
				t.Errorf("exit by %s after %d ms, unfused graph %v: %v: %s", who, 37*i%400, unfused, err, out)
			}
		}
	}
}

func TestOpenAndCloseLeavesNothingBehind(t *testing.T) {
	program, model := compile(t, built(t), []string{"cc"}, "programs/cycle.c"), tinyModel(t)
	t.Log(run(t, exec.Command(program, model, strconv.Itoa(times(60, 200)))))
	if out, err := exec.Command(program, model, "40", "leak").CombinedOutput(); err == nil {
		t.Errorf("rankers that are not closed are not detected: %s", out)
	}
}

func TestSignals(t *testing.T) {
	in, model := built(t), tinyModel(t)
	program := filepath.Join(t.TempDir(), "signals")
	run(t, exec.Command("cc", slices.Concat(warnings["c"], []string{"-I", in.include(), "-o", program, "programs/signals.c", "-ldl", "-lpthread"})...))
	silent(t, exec.Command(program, in.library(), model, "quiet"))
	// Negative control: by default Go sends SIGURG, which the host must detect.
	urged := exec.Command(program, in.library(), model, "urged")
	urged.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=0")
	silent(t, urged)
}

var pair = []engine.Pair{{Query: "edit photos", Document: "A mail reader."}, {Query: "edit photos", Document: "An image editor."}}

// engineScores returns package engine's result for the pairs, with the builtin model.
func engineScores(t testing.TB) *engine.Result {
	t.Helper()
	e, err := engine.Open(t.Context(), engine.Config{Model: "builtin", Device: "cpu"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := e.Score(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestFromPython(t *testing.T) {
	want := engineScores(t)
	var ranked [][2]float64
	out := run(t, exec.Command("python3", "-B", "programs/host.py", built(t).library(), "builtin"))
	if err := json.Unmarshal([]byte(out), &ranked); err != nil || len(ranked) != 3 {
		t.Fatalf("%v: %s", err, out)
	}
	for _, r := range ranked {
		if i := int(r[0]); i < len(pair) && float32(r[1]) != want.Logits[i] {
			t.Errorf("document %d has logit %v, want %v", i, r[1], want.Logits[i])
		}
	}
}

// Programs build with the pkg-config files of a copied tree alone, and run without
// the repository and its environment.
func TestFromTheInstalledFilesAlone(t *testing.T) {
	place := tree{filepath.Join(t.TempDir(), "an installed tree")}
	copyTree(t, built(t).root, place.root)
	want := engineScores(t)
	expected := fmt.Sprintf("1 %.4f\n0 %.4f\n", want.Scores[1], want.Scores[0])
	for _, test := range []struct{ name, link string }{
		{"mlxr", `'"-Wl,-rpath,$LIB"'`},
		{"mlxr-static", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			source, err := os.ReadFile("programs/consumer.c")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "consumer.c"), source, 0o600); err != nil {
				t.Fatal(err)
			}
			build := exec.Command("sh", "-ec", `eval "cc -Wall -Werror consumer.c -o consumer $($PKG_CONFIG --cflags --libs `+test.name+`)" `+test.link)
			build.Dir = dir
			build.Env = append(pkgConfig(t), "PKG_CONFIG_PATH="+filepath.Join(place.lib(), "pkgconfig"), "LIB="+place.lib())
			run(t, build)
			program := filepath.Join(dir, "consumer")
			if test.name == "mlxr-static" { // what it loads lies beside the program that it is in
				program = filepath.Join(place.lib(), "consumer")
				copyFile(t, filepath.Join(dir, "consumer"), program, 0o755)
			}
			consumer := exec.Command(program, pair[0].Query, pair[0].Document, pair[1].Document)
			consumer.Dir, consumer.Env = "/", []string{"HOME=" + t.TempDir()}
			if out := run(t, consumer); out != expected {
				t.Errorf("printed %q, want %q", out, expected)
			}
		})
	}
}

// In an app, libmlxr and libmlxrank are in frameworks beside one another.
func TestFromFrameworks(t *testing.T) {
	from, place := built(t), t.TempDir()
	own := filepath.Join(place, "Frameworks", "CMLXR.framework", "Versions", "A")
	native := filepath.Join(place, "Frameworks", "MLXRankNative.framework", "Versions", "A")
	copyTree(t, from.lib()+"/mlxrank/.", native)
	if err := errors.Join(os.Rename(filepath.Join(native, mlx.LibraryFile), filepath.Join(native, "MLXRankNative")), os.MkdirAll(own, 0o755)); err != nil {
		t.Fatal(err)
	}
	copyFile(t, from.library(), filepath.Join(own, "CMLXR"), 0o755)
	// The name that the consumer is linked with leads to the framework.
	if err := os.Symlink(filepath.Join(own, "CMLXR"), filepath.Join(place, filepath.Base(from.library()))); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(place, "consumer")
	run(t, exec.Command("cc", "-Wall", "-Werror", "programs/consumer.c", "-I"+from.include(), "-L"+place, "-lmlxr", "-Wl,-rpath,"+place, "-o", program))
	consumer := exec.Command(program, pair[0].Query, pair[0].Document, pair[1].Document)
	encoder := filepath.Join(from.root, "share", "mlxrank", "models", weights.BuiltinEncoder)
	consumer.Dir, consumer.Env = "/", []string{"HOME=" + t.TempDir(), weights.BuiltinEnv + "=" + encoder}
	want := engineScores(t)
	if out, expected := run(t, consumer), fmt.Sprintf("1 %.4f\n0 %.4f\n", want.Scores[1], want.Scores[0]); out != expected {
		t.Errorf("printed %q, want %q", out, expected)
	}
}

// pkgConfig returns an environment with pkg-config: on Linux the set-up's.
func pkgConfig(t testing.TB) []string {
	t.Helper()
	path := "PATH=" + os.Getenv("PATH")
	if runtime.GOOS == "darwin" {
		program, err := exec.LookPath("pkg-config")
		if err != nil {
			t.Fatalf("%v: brew install pkgconf", err)
		}
		return []string{path, "PKG_CONFIG=" + program}
	}
	debs := filepath.Join(repository(t), "build", "debs")
	program := filepath.Join(debs, "pkgconf-bin", "usr", "bin", "pkgconf")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run `python3 scripts/setup.py clang`", err)
	}
	return []string{path, "PKG_CONFIG=" + program, "LD_LIBRARY_PATH=" + filepath.Join(debs, "libpkgconf3", "usr", "lib", "x86_64-linux-gnu")}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if !info.IsDir() {
			copyFile(t, path, target, info.Mode())
			return nil
		}
		if linked, err := os.Lstat(path); err == nil && linked.Mode()&fs.ModeSymlink != 0 {
			copyTree(t, path+"/.", target)
			return nil
		}
		return os.MkdirAll(target, 0o755)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(t testing.TB, from, to string, mode fs.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, mode); err != nil {
		t.Fatal(err)
	}
}
