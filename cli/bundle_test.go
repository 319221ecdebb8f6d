package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/internal/bundle/bundletest"
)

const bundleTestdata = "../internal/bundle/testdata"

// TestBundle copies the libraries into an app and checks the app with doctor.
func TestBundle(t *testing.T) {
	fixtures := bundletest.Open(t, bundleTestdata)
	app, prefix := fixtures.App(t, "My Foo.app", "program/linked", "26.2"), fixtures.Prefix(t)
	library := filepath.Join(app, "Contents", "Frameworks", "libmlx.dylib")

	r := mlxrank.MustRun(t, "", "bundle", "--app", app, "--from", prefix, "--with-builtin", "--dry-run")
	commands := strings.Split(strings.TrimSuffix(r.Out, "\n"), "\n")
	if len(commands) != 5 || commands[4] != `codesign --force --timestamp --options runtime --sign "$IDENTITY" '`+app+"'" {
		t.Errorf("standard output %q", r.Out)
	}
	for _, word := range []string{"for macOS 26.2 and newer", "with kernels for the matrix units of M5", "new       Contents/Frameworks/libjaccl.dylib", "run path @executable_path/../Frameworks added", "dry run", "IDENTITY="} {
		if !strings.Contains(r.ErrOut, word) {
			t.Errorf("lacks %q:\n%s", word, r.ErrOut)
		}
	}
	if _, err := os.Stat(library); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run has written: %v", err)
	}

	done := mlxrank.MustRun(t, "", "bundle", "--app", app, "--from", prefix, "--with-builtin")
	if done.Out != r.Out || strings.Contains(done.ErrOut, "dry run") {
		t.Errorf("got %q\n%s", done.Out, done.ErrOut)
	}
	if again := mlxrank.MustRun(t, "", "bundle", "--app", app, "--from", prefix); again.Out != r.Out || !strings.Contains(again.ErrOut, "unchanged Contents/Frameworks/libmlx.dylib") || !strings.Contains(again.ErrOut, "nothing: everything was in place") {
		t.Errorf("a second time: %q\n%s", again.Out, again.ErrOut)
	}

	checked := mlxrank.Run(t, "", "doctor", "--app", app)
	got := clitest.States(t, checked)
	for name, state := range got {
		if (state == "FAIL") != (name == "seal") {
			t.Errorf("%s: %s\n%s", name, state, checked.Out)
		}
	}
	if checked.Status != command.ExitFailure || len(got) != 16 || !strings.Contains(checked.Out, "-> sign from the inside out") {
		t.Errorf("status %d and %d checks\n%s", checked.Status, len(got), checked.Out)
	}
}

// TestDoctorApp finds nothing wrong with an app that a team has signed.
func TestDoctorApp(t *testing.T) {
	app := filepath.Join(bundletest.Unpack(t, filepath.Join(bundleTestdata, "signed.zip")), "Signed.app")
	r := mlxrank.MustRun(t, "", "doctor", "--app", app)
	for name, state := range clitest.States(t, r) {
		if state != "OK" {
			t.Errorf("%s: %s\n%s", name, state, r.Out)
		}
	}
	for _, word := range []string{"OK    team       team MLXRTEST01, hardened runtime on", "OK    signature  4 of 4", "Metal 3.1"} {
		if !strings.Contains(r.Out, word) {
			t.Errorf("lacks %q:\n%s", word, r.Out)
		}
	}
}

func TestBundleFails(t *testing.T) {
	fixtures := bundletest.Open(t, bundleTestdata)
	app, prefix, none := fixtures.App(t, "Foo.app", "program/linked", "13.0"), fixtures.Prefix(t), filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		name  string
		args  []string
		words []string
	}{
		{"no such app", []string{"bundle", "--app", none, "--from", prefix}, []string{none, "no such file"}},
		{"no such folder", []string{"bundle", "--app", app, "--from", none}, []string{"no libraries for macOS", none}},
		{"does not fit", []string{"bundle", "--app", app, "--from", prefix}, []string{"nothing was changed in " + app, "needs macOS 14.0", "supports macOS 13.0"}},
		{"app is a file", []string{"doctor", "--app", fixtures.Path("program/linked")}, []string{"is not a folder"}},
		{"app is empty", []string{"doctor", "--app", t.TempDir()}, []string{"Contents/Info.plist is missing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			clitest.CheckFailure(t, mlxrank.Run(t, "", test.args...), command.ExitFailure, test.words...)
		})
	}
}

// TestBundleFromHere searches next to this program's own libraries, which are not
// for macOS here.
func TestBundleFromHere(t *testing.T) {
	fixtures := bundletest.Open(t, bundleTestdata)
	app := fixtures.App(t, "Foo.app", "program/linked", "14.0")
	library := filepath.Join(t.TempDir(), "libmlxrank.so")
	t.Setenv("MLXRANK_LIBRARY", library)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "bundle", "--app", app), command.ExitFailure, "no libraries for macOS", filepath.Dir(library), "--from")
	t.Setenv("MLXRANK_LIBRARY", filepath.Join(fixtures.Prefix(t), "lib", "mlxrank", "libmlxrank.dylib"))
	mlxrank.MustRun(t, "", "bundle", "--app", app)
}
