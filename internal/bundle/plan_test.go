package bundle

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/bundle/bundletest"
	"github.com/mlxrank/mlxrank/weights"
)

// put puts the libraries into an app as mlxrank bundle does.
func put(t testing.TB, app, prefix string, withBuiltin bool) (*Plan, error) {
	t.Helper()
	a, err := Open(app)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}()
	source, err := FindSource([]string{prefix})
	if err != nil {
		return nil, err
	}
	plan, err := a.Plan(source, withBuiltin)
	if err != nil {
		return nil, err
	}
	return plan, plan.Apply(t.Context())
}

// putParts calls put and fails the test at an error.
func putParts(t testing.TB, app, prefix string, withBuiltin bool) *Plan {
	t.Helper()
	plan, err := put(t, app, prefix, withBuiltin)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// tree returns all entries below a folder: files with their content, links with
// their target.
func tree(t testing.TB, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			found[name], err = os.Readlink(path)
		case entry.Type().IsRegular():
			var data []byte
			data, err = os.ReadFile(path)
			found[name] = string(data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// sameTree reports a difference between two trees.
func sameTree(t testing.TB, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s differs", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("unexpected entry %s", name)
		}
	}
}

// states returns the planned action for each file.
func states(p *Plan) map[string]string {
	found := map[string]string{}
	for _, f := range p.Files {
		found[f.Target] = f.State
	}
	return found
}

func TestPlan(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	for _, test := range []struct {
		name, program, minimum string
		builtin                bool
		mlx                    string // build
		libraries              []string
		extra                  []string // other files
		words                  string   // in the reason for choosing the build
	}{
		{"old system", "program/linked", "14.0", false, "old", []string{"libmlx", "libmlxrank", "libmlxr"}, nil, "which need macOS 26.2"},
		{"one version too old", "program/linked", "26.1", false, "old", []string{"libmlx", "libmlxrank", "libmlxr"}, nil, "which need macOS 26.2"},
		{"new system", "program/linked", "26.2", true, "new", []string{"libjaccl", "libmlx", "libmlxrank", "libmlxr"},
			[]string{encoderFolder + "/config.json", encoderFolder + "/tokenizer.json", encoderFolder + "/model.safetensors"}, "with kernels"},
		{"universal program", "program/universal", "15", false, "old", []string{"libmlx", "libmlxrank", "libmlxr"}, nil, ""},
		{"program needs no change", "program/found", "14.0", false, "old", []string{"libmlx", "libmlxrank", "libmlxr"}, nil, ""},
		{"loads at run time", "program/unlinked", "14.0", false, "old", []string{"libmlx", "libmlxrank", "libmlxr"}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			app, prefix := fixtures.App(t, "An App's.app", test.program, test.minimum), fixtures.Prefix(t)
			program := tree(t, app)["Contents/MacOS/Foo"]
			plan := putParts(t, app, prefix, test.builtin)
			if !strings.Contains(plan.Variant, test.words) {
				t.Errorf("variant: %s", plan.Variant)
			}

			want := []string{"Contents/Info.plist", "Contents/MacOS/Foo", metallibFile, ownResources + "/LICENSE", ownResources + "/THIRD_PARTY_NOTICES.txt"}
			var sign []string
			for _, name := range test.libraries {
				want = append(want, frameworks+"/"+name+".dylib")
				sign = append(sign, `codesign --force --timestamp --options runtime --sign "$IDENTITY" '`+strings.ReplaceAll(app, "'", `'\''`)+"/"+frameworks+"/"+name+".dylib'")
			}
			sign = append(sign, `codesign --force --timestamp --options runtime --sign "$IDENTITY" '`+strings.ReplaceAll(app, "'", `'\''`)+"'")
			got := tree(t, app)
			for _, name := range append(want, test.extra...) {
				if _, ok := got[name]; !ok {
					t.Errorf("%s is missing", name)
				}
			}
			if len(got) != len(want)+len(test.extra) {
				t.Errorf("%d files, want %d", len(got), len(want)+len(test.extra))
			}
			if !slices.Equal(plan.Sign, sign) {
				t.Errorf("to sign:\n%s", strings.Join(plan.Sign, "\n"))
			}
			if kernels := tree(t, fixtures.Dir)[test.mlx+"/mlx.metallib"]; got[metallibFile] != kernels {
				t.Error("the metallib differs from the build's")
			}
			mlx := read(t, filepath.Join(app, frameworks, mlxLibrary)).Slices[0]
			if want := read(t, fixtures.Path(test.mlx+"/libmlx.dylib")).Slices[0]; mlx.Minimum != want.Minimum || mlx.ID != "@rpath/libmlx.dylib" || mlx.Signature.stale(mlx.data) != "" {
				t.Errorf("libmlx %v, %s", mlx.Minimum, mlx.ID)
			}
			if l, ok := mlx.links("libjaccl.dylib"); ok && l.Name != "@loader_path/libjaccl.dylib" {
				t.Errorf("libmlx is linked with %s", l.Name)
			}
			shim := read(t, filepath.Join(app, frameworks, shimLibrary)).Slices[0]
			if l, ok := shim.links(mlxLibrary); !ok || l.Name != "@loader_path/libmlx.dylib" {
				t.Errorf("libmlxrank is linked with %s", l.Name)
			}
			for _, s := range read(t, filepath.Join(app, programs, "Foo")).Slices {
				if _, ok := s.links(engineLibrary); ok && !slices.Equal(s.RunPaths, []string{frameworksPath}) {
					t.Errorf("the program's run paths: %q", s.RunPaths)
				}
			}
			if (got["Contents/MacOS/Foo"] == program) != (test.name == "program needs no change" || test.name == "loads at run time") {
				t.Error("the program was changed without need, or not changed despite it")
			}

			// A second plan only has to sign.
			plan = putParts(t, app, prefix, test.builtin)
			if plan.Changes() || !slices.Equal(plan.Sign, sign) {
				t.Errorf("second plan: %v", states(plan))
			}
			sameTree(t, tree(t, app), got)
		})
	}
}

// TestPlanKeepsSignatures puts the libraries into an app that already has them,
// signed.
func TestPlanKeepsSignatures(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	app := filepath.Join(bundletest.Unpack(t, "testdata/signed.zip"), "Signed.app")
	prefix := fixtures.Prefix(t)
	bundletest.Write(t, filepath.Join(prefix, "share/mlxrank/THIRD_PARTY_NOTICES.txt"), "The licenses.\n")
	bundletest.Write(t, filepath.Join(prefix, "share/mlxrank/LICENSE"), "The licenses.\n")
	// The signed app's libmlxrank finds libmlx by a run path, which bundle changes.
	before := tree(t, app)
	plan := putParts(t, app, prefix, false)
	want := map[string]string{
		frameworks + "/libmlx.dylib": Unchanged, frameworks + "/libmlxr.dylib": Unchanged, frameworks + "/libmlxrank.dylib": Replaced,
		metallibFile: Unchanged, ownResources + "/LICENSE": Unchanged, ownResources + "/THIRD_PARTY_NOTICES.txt": Unchanged,
	}
	got := states(plan)
	for name, state := range want {
		if got[name] != state {
			t.Errorf("%s: %q, want %q", name, got[name], state)
		}
	}
	delete(before, frameworks+"/libmlxrank.dylib")
	after := tree(t, app)
	delete(after, frameworks+"/libmlxrank.dylib")
	sameTree(t, after, before)
	if n := len(plan.Sign); n != 4 || !strings.Contains(plan.Sign[3], "--preserve-metadata=entitlements ") {
		t.Errorf("to sign: %q", plan.Sign)
	}
}

// TestPlanAfterSigning checks that nothing is to be signed in an app that a team
// has signed and that has all files.
func TestPlanAfterSigning(t *testing.T) {
	t.Parallel()
	app := filepath.Join(bundletest.Unpack(t, "testdata/signed.zip"), "Signed.app")
	a, err := Open(app)
	if err != nil {
		t.Fatal(err)
	}
	plan := &Plan{app: a}
	if got := plan.commands([]string{mlxLibrary}); got != nil {
		t.Errorf("to sign: %q", got)
	}
	plan.Files = []File{{State: New}}
	if got := plan.commands([]string{mlxLibrary}); len(got) != 2 {
		t.Errorf("to sign: %q", got)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

// TestPlanNames checks an executable that was linked with the library by a path
// of the build machine: the new name must be found in the app.
func TestPlanNames(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	b := read(t, fixtures.Path("program/linked"))
	data, err := b.rewrite(func(*Slice) edits {
		return edits{names: map[string]string{"@rpath/libmlxr.dylib": "/usr/local/lib/libmlxr.dylib"}, runPaths: []string{"/usr/local/lib"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	app := fixtures.App(t, "Foo.app", "program/linked", "14.0")
	program := filepath.Join(app, programs, "Foo")
	if err := os.WriteFile(program, data, 0o700); err != nil {
		t.Fatal(err)
	}
	putParts(t, app, fixtures.Prefix(t), false)
	s := read(t, program).Slices[0]
	if l, _ := s.links(engineLibrary); l.Name != "@rpath/libmlxr.dylib" || !slices.Equal(s.RunPaths, []string{"/usr/local/lib", frameworksPath}) {
		t.Errorf("linked with %s, run paths %q", l.Name, s.RunPaths)
	}
	if info, err := os.Stat(program); err != nil || info.Mode().Perm() != 0o755 { // App's mode, which os.WriteFile keeps
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestPlanRefuses checks that an app that does not fit the libraries is refused
// and unchanged.
func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	outside := t.TempDir()
	link := func(t *testing.T, target, path string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	info := func(text string) func(*testing.T, string, string) {
		return func(t *testing.T, app, _ string) { bundletest.Write(t, filepath.Join(app, infoFile), text) }
	}
	for _, test := range []struct {
		name, minimum string
		spoil         func(t *testing.T, app, prefix string)
		words         []string
	}{
		{"no Info.plist", "14.0", func(t *testing.T, app, _ string) { remove(t, filepath.Join(app, infoFile)) }, []string{"Contents/Info.plist is missing", "not a macOS app"}},
		{"damaged Info.plist", "14.0", info("<plist><dict>"), []string{"Info.plist cannot be read"}},
		{"Info.plist without an executable", "14.0", info(bundletest.Info("", "14.0")), []string{`CFBundleExecutable is ""`}},
		{"Info.plist with an executable elsewhere", "14.0", info(bundletest.Info("../../../bin/sh", "14.0")), []string{"CFBundleExecutable is \"../../../bin/sh\""}},
		{"no executable", "14.0", info(bundletest.Info("Bar", "14.0")), []string{"Contents/MacOS/Bar", "is missing"}},
		{"unknown minimum", "14.0", info(bundletest.Info("Foo", "$(MACOSX_DEPLOYMENT_TARGET)")), []string{"LSMinimumSystemVersion", "DEPLOYMENT_TARGET", "like 14.0"}},
		{"executable is a text file", "14.0", func(t *testing.T, app, _ string) {
			bundletest.Write(t, filepath.Join(app, programs, "Foo"), "#!/bin/sh")
		}, []string{"Contents/MacOS/Foo", "not a Mach-O file"}},
		{"executable for Intel", "14.0", func(t *testing.T, app, _ string) {
			fixtures.Copy(t, "program/intel", filepath.Join(app, programs, "Foo"))
		}, []string{"is for x86_64", "arm64"}},
		{"executable is a library", "14.0", func(t *testing.T, app, _ string) {
			fixtures.Copy(t, "old/libmlx.dylib", filepath.Join(app, programs, "Foo"))
		}, []string{"has the kind dylib, expected exec"}},
		{"app for an older system", "13.0", nil, []string{"libmlx.dylib needs macOS 14.0", "supports macOS 13.0", "libmlxr.dylib needs", "mlx.metallib needs macOS 14.0", "raise LSMinimumSystemVersion"}},
		{"libraries for a newer system", "14.0", func(t *testing.T, _, prefix string) {
			fixtures.Copy(t, "new/libmlx.dylib", filepath.Join(prefix, "lib/mlxrank/libmlx.dylib"))
			fixtures.Copy(t, "new/libjaccl.dylib", filepath.Join(prefix, "lib/mlxrank/libjaccl.dylib"))
		}, []string{"libmlx.dylib needs macOS 26.2", "supports macOS 14.0"}},
		{"kernels for a newer system", "14.0", func(t *testing.T, _, prefix string) {
			fixtures.Copy(t, "new/mlx.metallib", filepath.Join(prefix, "lib/mlxrank/mlx.metallib"))
		}, []string{"mlx.metallib needs macOS 26.2", "supports macOS 14.0"}},
		{"library for Intel", "14.0", func(t *testing.T, _, prefix string) {
			fixtures.Copy(t, "intel/libmlx.dylib", filepath.Join(prefix, "lib/mlxrank/libmlx.dylib"))
		}, []string{"libmlx.dylib is for x86_64, expected arm64"}},
		{"library is a program", "14.0", func(t *testing.T, _, prefix string) {
			fixtures.Copy(t, "program/linked", filepath.Join(prefix, "lib/mlxrank/libmlx.dylib"))
		}, []string{"libmlx.dylib has the kind exec, expected dylib"}},
		{"library is truncated", "14.0", func(t *testing.T, _, prefix string) {
			if err := os.Truncate(filepath.Join(prefix, "lib/libmlxr.dylib"), 49679); err != nil {
				t.Fatal(err)
			}
		}, []string{"libmlxr.dylib: is cut off"}},
		{"another MLX", "14.0", func(t *testing.T, _, prefix string) {
			fixtures.Copy(t, "other/libmlx.dylib", filepath.Join(prefix, "lib/mlxrank/libmlx.dylib"))
		}, []string{"lacks 1 symbols", "_mlx_add", "use both from one build"}},
		{"a library's library is missing", "26.2", func(t *testing.T, _, prefix string) {
			remove(t, filepath.Join(prefix, "lib/mlxrank/macos26/libjaccl.dylib"))
		}, []string{"libmlx.dylib is linked with @rpath/libjaccl.dylib", "nor in the same folder"}},
		{"no engine library", "14.0", func(t *testing.T, _, prefix string) { remove(t, filepath.Join(prefix, "lib/libmlxr.dylib")) }, []string{"libmlxr.dylib is in none of"}},
		{"no libraries", "14.0", func(t *testing.T, _, prefix string) { remove(t, filepath.Join(prefix, "lib")) }, []string{"no libraries for macOS", "libmlxrank.dylib in", "lib/mlxrank"}},
		{"no kernels", "14.0", func(t *testing.T, _, prefix string) { remove(t, filepath.Join(prefix, "lib/mlxrank/mlx.metallib")) }, []string{"mlx.metallib", "no such file"}},
		{"no notices", "14.0", func(t *testing.T, _, prefix string) {
			remove(t, filepath.Join(prefix, "share/mlxrank/THIRD_PARTY_NOTICES.txt"))
		}, []string{"THIRD_PARTY_NOTICES.txt is in none of"}},
		{"no encoder", "14.0", func(t *testing.T, _, prefix string) { remove(t, filepath.Join(prefix, "share/mlxrank/models")) }, []string{"found no encoder all-MiniLM-L6-v2"}},
		{"folder links out of the app", "14.0", func(t *testing.T, app, _ string) { link(t, outside, filepath.Join(app, frameworks)) }, []string{"Contents/Frameworks", "out of the app"}},
		{"folder links to its parent", "14.0", func(t *testing.T, app, _ string) { link(t, "../../..", filepath.Join(app, "Contents/Resources")) }, []string{"Contents/Resources/", "out of the app"}},
		{"file links out of the app", "14.0", func(t *testing.T, app, _ string) {
			link(t, filepath.Join(outside, "x"), filepath.Join(app, metallibFile))
		}, []string{metallibFile + " is a link to", "out of the app"}},
		{"executable links out of the app", "14.0", func(t *testing.T, app, _ string) {
			link(t, fixtures.Path("program/linked"), filepath.Join(app, programs, "Foo"))
		}, []string{"Contents/MacOS/Foo is a link to", "out of the app"}},
		{"link loop", "14.0", func(t *testing.T, app, _ string) { link(t, "mlx.metallib", filepath.Join(app, metallibFile)) }, []string{"a circular link"}},
		{"library is a folder", "14.0", func(t *testing.T, app, _ string) {
			bundletest.Write(t, filepath.Join(app, frameworks, "libmlx.dylib", "x"), "x")
		}, []string{"Contents/Frameworks/libmlx.dylib is not a file"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			app, prefix := fixtures.App(t, "Foo.app", "program/linked", test.minimum), fixtures.Prefix(t)
			if test.spoil != nil {
				test.spoil(t, app, prefix)
			}
			before := tree(t, app)
			_, err := put(t, app, prefix, true)
			if err == nil {
				t.Fatal("no error")
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error lacks %q: %v", word, err)
				}
			}
			sameTree(t, tree(t, app), before)
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("%d files were written outside, %v", len(left), err)
			}
		})
	}
}

// TestOpenRefuses checks that Open rejects everything but a folder.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	for _, path := range []string{filepath.Join(t.TempDir(), "none.app"), fixtures.Path("program/linked")} {
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// TestMinimumOfExecutable checks that the executable's minimum is used if
// Info.plist has none.
func TestMinimumOfExecutable(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	for program, want := range map[string]string{"program/newer": "26.2", "program/linked": "14.0"} {
		a, err := Open(fixtures.App(t, "Foo.app", program, ""))
		if err != nil {
			t.Fatal(err)
		}
		if a.Minimum.String() != want || !strings.Contains(a.MinimumBy, "main executable") {
			t.Errorf("macOS %v by %s", a.Minimum, a.MinimumBy)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := Open(fixtures.App(t, "Foo.app", "program/intel", "")); err == nil || !strings.Contains(err.Error(), "no LSMinimumSystemVersion") {
		t.Errorf("got %v", err)
	}
}

// TestLinksInside checks that links within the app are followed.
func TestLinksInside(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	app := fixtures.App(t, "Foo.app", "program/linked", "14.0")
	contents := filepath.Join(app, "Contents")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(contents, "Versions/A/Frameworks"), 0o755),
		os.Symlink("A", filepath.Join(contents, "Versions/Current")),
		os.Symlink("Versions/Current/Frameworks", filepath.Join(contents, "Frameworks")),
		os.Rename(filepath.Join(contents, "MacOS/Foo"), filepath.Join(contents, "MacOS/Foo-bin")),
		os.Symlink("Foo-bin", filepath.Join(contents, "MacOS/Foo")),
	); err != nil {
		t.Fatal(err)
	}
	linked := filepath.Join(t.TempDir(), "Linked.app")
	if err := os.Symlink(app, linked); err != nil {
		t.Fatal(err)
	}
	putParts(t, linked, fixtures.Prefix(t), false)
	if target, err := os.Readlink(filepath.Join(contents, "MacOS/Foo")); err != nil || target != "Foo-bin" {
		t.Errorf("the link to the executable: %q, %v", target, err)
	}
	if s := read(t, filepath.Join(contents, "MacOS/Foo-bin")).Slices[0]; !slices.Equal(s.RunPaths, []string{frameworksPath}) {
		t.Errorf("run paths %q", s.RunPaths)
	}
	read(t, filepath.Join(contents, "Versions/A/Frameworks/libmlx.dylib"))
	if plan := putParts(t, linked, fixtures.Prefix(t), false); plan.Changes() {
		t.Errorf("second plan: %v", states(plan))
	}
}

// TestInterrupted checks that an interrupted run leaves the app unchanged, and
// that a run succeeds despite the partial files of an earlier one.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	app := fixtures.App(t, "Foo.app", "program/linked", "14.0")
	bundletest.Write(t, filepath.Join(app, frameworks, "libmlx.dylib"), "what was there")
	a, err := Open(app)
	if err != nil {
		t.Fatal(err)
	}
	source, err := FindSource([]string{fixtures.Prefix(t)})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := a.Plan(source, false)
	if err != nil {
		t.Fatal(err)
	}
	before := tree(t, app)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := plan.Apply(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	sameTree(t, tree(t, app), before)
	// A file that cannot be read also stops the run, after others were written.
	if err := os.Remove(source.Notices); err != nil {
		t.Fatal(err)
	}
	if err := plan.Apply(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	sameTree(t, tree(t, app), before)
	bundletest.Write(t, source.Notices, "notices")
	bundletest.Write(t, filepath.Join(app, frameworks, ".libmlx.dylib.mlxrank-partial"), "left behind")
	if err := plan.Apply(t.Context()); err != nil {
		t.Error(err)
	}
	if _, ok := tree(t, app)[frameworks+"/.libmlx.dylib.mlxrank-partial"]; ok {
		t.Error("a partial file remains")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"Foo.app": "Foo.app", "My Foo.app": "'My Foo.app'", "it's": `'it'\''s'`, "": "''", "-n": "'-n'", "$(id)": "'$(id)'", "Ünï.app": "'Ünï.app'",
	} {
		if got := quoted(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

// TestEncoderName checks that bundle copies the encoder that weights looks for.
func TestEncoderName(t *testing.T) {
	t.Parallel()
	if encoderName != weights.BuiltinEncoder {
		t.Errorf("the encoder is %q, package weights looks for %q", encoderName, weights.BuiltinEncoder)
	}
}
