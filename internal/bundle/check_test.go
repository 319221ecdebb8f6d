package bundle

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/bundle/bundletest"
)

// check checks an app as mlxrank doctor does, and returns the names of the
// findings in order and the findings by name.
func check(t testing.TB, app string) (names []string, found map[string]Finding) {
	t.Helper()
	a, err := Open(app)
	if err != nil {
		t.Fatal(err)
	}
	found = map[string]Finding{}
	for _, f := range a.Check() {
		if _, twice := found[f.Name]; twice || f.Text == "" {
			t.Errorf("finding %q: %q", f.Name, f.Text)
		}
		names, found[f.Name] = append(names, f.Name), f
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	return names, found
}

// failures returns the names of the findings that failed.
func failures(names []string, found map[string]Finding) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !found[name].Failed() })
}

// signedApp makes a valid app that a team has signed.
func signedApp(t testing.TB) (app, dir string) {
	t.Helper()
	dir = bundletest.Unpack(t, "testdata/signed.zip")
	return filepath.Join(dir, "Signed.app"), dir
}

func TestCheck(t *testing.T) {
	t.Parallel()
	app, _ := signedApp(t)
	names, found := check(t, app)
	want := []string{"app", "executable", "libmlxr", "libmlxrank", "libmlx", "symbols", "mlx", "metallib", "nax", "signature", "team", "sandbox", "seal", "notices", "builtin"}
	if !slices.Equal(names, want) || len(failures(names, found)) > 0 {
		t.Errorf("findings %q, failures %q", names, failures(names, found))
	}
	for name, words := range map[string]string{
		"app": "org.example.signed, for macOS 14.0 and newer", "symbols": "all 2 symbols", "mlx": "0.32.2", "metallib": "Metal 3.1, for macOS 14.0",
		"signature": "4 of 4", "team": "team MLXRTEST01, hardened runtime on", "sandbox": "without com.apple.security.network.client", "builtin": "not in the app",
	} {
		if !strings.Contains(found[name].Text, words) {
			t.Errorf("%s: %s", name, found[name].Text)
		}
	}
}

// TestCheckAfterBundle checks that a new app lacks only the signature of the
// whole app.
func TestCheckAfterBundle(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	for minimum, nax := range map[string]string{"14.0": "its own need an app for macOS 26.2", "26.2": "1 steel_gemm_fused_nax kernels"} {
		app := fixtures.App(t, "Foo.app", "program/linked", minimum)
		putParts(t, app, fixtures.Prefix(t), true)
		names, found := check(t, app)
		if got := failures(names, found); !slices.Equal(got, []string{"seal"}) {
			t.Errorf("macOS %s: failures %q", minimum, got)
		}
		if !strings.Contains(found["nax"].Text, nax) || !strings.Contains(found["team"].Text, "ad hoc") || found["builtin"].Text != encoderFolder {
			t.Errorf("macOS %s: %+v", minimum, found)
		}
		if _, ok := found["libjaccl"]; ok != (minimum == "26.2") {
			t.Errorf("macOS %s: findings %q", minimum, names)
		}
	}
}

// change applies f to the bytes of a file.
func change(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, f(data), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// setFlags changes the flags of a file's signature, which the signature's hashes
// do not cover.
func setFlags(t testing.TB, path string, set, unset uint32) {
	t.Helper()
	s := read(t, path).Slices[0]
	change(t, path, func(data []byte) []byte {
		for _, d := range s.Signature.directories {
			flags := binary.BigEndian.Uint32(data[d.at+12:])
			binary.BigEndian.PutUint32(data[d.at+12:], flags&^unset|set)
		}
		return data
	})
}

// otherTeam changes the team in a file's signature.
func otherTeam(t testing.TB, path string) {
	t.Helper()
	change(t, path, func(data []byte) []byte { return bytes.ReplaceAll(data, []byte("MLXRTEST01"), []byte("OTHERTEAM1")) })
}

// withoutSignature changes the kind of the signature's load command.
func withoutSignature(t testing.TB, path string) {
	t.Helper()
	s := read(t, path).Slices[0]
	change(t, path, func(data []byte) []byte {
		for _, c := range s.commands {
			if c.kind == lcSignature {
				binary.LittleEndian.PutUint32(data[c.at:], 0x2e) // LC_LINKER_OPTIMIZATION_HINT
			}
		}
		return data
	})
}

// TestCheckFailures damages one thing in a valid app and checks that it is
// reported.
func TestCheckFailures(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	remove := func(file string) func(*testing.T, string, string) {
		return func(t *testing.T, app, _ string) {
			if err := os.RemoveAll(filepath.Join(app, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fixture := func(name, file string) func(*testing.T, string, string) {
		return func(t *testing.T, app, _ string) { fixtures.Copy(t, name, filepath.Join(app, file)) }
	}
	text := func(file, content string) func(*testing.T, string, string) {
		return func(t *testing.T, app, _ string) { bundletest.Write(t, filepath.Join(app, file), content) }
	}
	rewritten := func(file string, e edits) func(*testing.T, string, string) {
		return func(t *testing.T, app, _ string) {
			data, err := read(t, filepath.Join(app, file)).rewrite(func(*Slice) edits { return e })
			if err != nil {
				t.Fatal(err)
			}
			change(t, filepath.Join(app, file), func([]byte) []byte { return data })
		}
	}
	const program, libmlx = programs + "/Signed", frameworks + "/libmlx.dylib"
	for _, test := range []struct {
		name   string
		spoil  func(t *testing.T, app, dir string)
		failed []string // the first failure and the failures that follow from it
		words  string   // in the text of the first failure
	}{
		{"program for Intel", fixture("program/intel", program), []string{"executable", "signature", "team", "seal"}, "for x86_64, expected arm64"},
		{"program for a newer system", fixture("program/newer", program), []string{"executable", "team", "seal"}, "needs macOS 26.2"},
		{"program without a run path", fixture("program/linked", program), []string{"executable", "team", "seal"}, "do not find it in the app"},
		{"no libmlxr", remove(frameworks + "/libmlxr.dylib"), []string{"executable", "libmlxr"}, "do not find it in the app"},
		{"no libmlxrank", remove(frameworks + "/libmlxrank.dylib"), []string{"libmlxrank"}, "is missing"},
		{"no libmlx", remove(libmlx), []string{"libmlxrank", "libmlx"}, "linked with @rpath/libmlx.dylib; that is not in the app"},
		{"libmlx for Intel", fixture("intel/libmlx.dylib", libmlx), []string{"libmlx"}, "is for x86_64, expected arm64"},
		{"libmlx for a newer system", fixture("new/libmlx.dylib", libmlx), []string{"libmlx", "libjaccl", "metallib", "team", "seal"}, "needs macOS 26.2, but the app supports macOS 14.0"},
		{"libmlx is a text file", text(libmlx, "what"), []string{"libmlx"}, "not a Mach-O file"},
		{"another libmlx", fixture("other/libmlx.dylib", libmlx), []string{"symbols", "team", "seal"}, "lacks 1 symbols that libmlxrank.dylib needs, such as _mlx_add"},
		{"libmlx under another name", rewritten(libmlx, edits{id: "/opt/homebrew/lib/libmlx.dylib"}), []string{"libmlx", "signature"}, "is named /opt/homebrew/lib/libmlx.dylib"},
		{"libmlxrank with Homebrew's MLX", rewritten(frameworks+"/libmlxrank.dylib", edits{names: map[string]string{"@rpath/libmlx.dylib": "/opt/homebrew/lib/libmlx.dylib"}}),
			[]string{"libmlxrank", "signature"}, "linked with /opt/homebrew/lib/libmlx.dylib; that is not in the app"},
		{"no metallib", remove(metallibFile), []string{"metallib"}, "is missing"},
		{"metallib among code", fixture("old/mlx.metallib", frameworks+"/mlx.metallib"), []string{"metallib"}, "where codesign rejects data"},
		{"metallib for a newer system", fixture("new/mlx.metallib", metallibFile), []string{"metallib", "seal"}, "Metal 4.0 for macOS 26.2"},
		{"metallib is a text file", text(metallibFile, "what"), []string{"metallib", "seal"}, "not a library of Metal kernels"},
		{"metallib links out of the app", func(t *testing.T, app, _ string) {
			remove(metallibFile)(t, app, "")
			if err := os.Symlink(fixtures.Path("old/mlx.metallib"), filepath.Join(app, metallibFile)); err != nil {
				t.Fatal(err)
			}
		}, []string{"metallib"}, "out of the app"},
		{"libmlx is not signed", func(t *testing.T, app, _ string) { withoutSignature(t, filepath.Join(app, libmlx)) }, []string{"signature", "team", "seal"}, "libmlx.dylib is not signed"},
		{"libmlx is changed", func(t *testing.T, app, _ string) {
			change(t, filepath.Join(app, libmlx), func(data []byte) []byte { data[20000]++; return data })
		}, []string{"signature"}, "libmlx.dylib was changed after it was signed: 1 of its pages differ"},
		{"program's entitlements are changed", func(t *testing.T, app, _ string) {
			change(t, filepath.Join(app, program), func(data []byte) []byte {
				return bytes.Replace(data, []byte("com.apple.security.app-sandbox"), []byte("com.apple.security.app-sandbux"), 1)
			})
		}, []string{"signature"}, "its entitlements differ"},
		{"libmlx by another team", func(t *testing.T, app, _ string) { otherTeam(t, filepath.Join(app, libmlx)) }, []string{"team", "seal"}, "library validation of the hardened runtime"},
		{"libmlx ad hoc", fixture("old/libmlx.dylib", libmlx), []string{"team", "seal"}, "libmlx.dylib: no team (ad hoc)"},
		{"other teams without the hardened runtime", func(t *testing.T, app, _ string) {
			otherTeam(t, filepath.Join(app, libmlx))
			setFlags(t, filepath.Join(app, program), 0, flagRuntime)
		}, []string{"team", "seal"}, "cannot be notarised"},
		{"library validation without the hardened runtime", func(t *testing.T, app, _ string) {
			otherTeam(t, filepath.Join(app, libmlx))
			setFlags(t, filepath.Join(app, program), flagRequireLV, flagRuntime)
		}, []string{"team", "seal"}, "will not load them"},
		{"ad hoc with the hardened runtime", func(t *testing.T, app, _ string) {
			fixtures.Copy(t, "program/found", filepath.Join(app, program))
			setFlags(t, filepath.Join(app, program), flagRuntime, 0)
		}, []string{"team", "seal"}, "no team (ad hoc), with the hardened runtime"},
		{"app is not signed as a whole", remove("Contents/_CodeSignature"), []string{"seal"}, "CodeResources is missing"},
		{"list of files is changed", func(t *testing.T, app, _ string) {
			change(t, filepath.Join(app, sealFile), func(data []byte) []byte { return append(data, '\n') })
		}, []string{"seal"}, "CodeResources was changed after the app was signed"},
		{"list of files is damaged", text(sealFile, "<plist><dict>"), []string{"seal"}, "cannot be read"},
		{"Info.plist is changed", text(infoFile, bundletest.Info("Signed", "14.0")), []string{"seal"}, "Info.plist was changed"},
		{"only the program is signed", fixture("program/found", program), []string{"team", "seal"}, "some libraries are not"},
		{"notices are changed", text(ownResources+"/THIRD_PARTY_NOTICES.txt", "none"), []string{"seal"}, "with another hash"},
		{"no notices", remove(ownResources + "/THIRD_PARTY_NOTICES.txt"), []string{"notices"}, "is missing"},
		{"no license", remove(ownResources + "/LICENSE"), []string{"notices"}, "is missing"},
		{"incomplete model", text(encoderFolder+"/config.json", "{}"), []string{"builtin"}, "tokenizer.json is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			app, dir := signedApp(t)
			test.spoil(t, app, dir)
			names, found := check(t, app)
			got := failures(names, found)
			if !slices.Equal(got, test.failed) {
				t.Errorf("failures %q, want %q: %+v", got, test.failed, found)
			}
			first := found[test.failed[0]]
			if all := first.Text + "\n" + strings.Join(first.Detail, "\n"); !strings.Contains(all, test.words) {
				t.Errorf("%s lacks %q: %s", first.Name, test.words, all)
			}
		})
	}
}

// TestCheckNotes checks the findings that are notes and not failures.
func TestCheckNotes(t *testing.T) {
	t.Parallel()
	fixtures := bundletest.Open(t, "testdata")
	for _, test := range []struct {
		name    string
		spoil   func(t *testing.T, app, dir string)
		finding string
		words   string
	}{
		{"other team by entitlement", func(t *testing.T, app, dir string) {
			change(t, filepath.Join(app, programs, "Signed"), func([]byte) []byte {
				data, err := os.ReadFile(filepath.Join(dir, "relaxed"))
				if err != nil {
					t.Fatal(err)
				}
				return data
			})
			otherTeam(t, filepath.Join(app, frameworks, mlxLibrary))
		}, "team", "load only because of the entitlement"},
		{"unnecessary entitlement", func(t *testing.T, app, dir string) {
			if err := os.Rename(filepath.Join(dir, "relaxed"), filepath.Join(app, programs, "Signed")); err != nil {
				t.Fatal(err)
			}
		}, "team", "does not need the entitlement"},
		{"no hardened runtime", func(t *testing.T, app, _ string) {
			setFlags(t, filepath.Join(app, programs, "Signed"), 0, flagRuntime)
		}, "team", "notarisation requires the hardened runtime"},
		{"loads at run time", func(t *testing.T, app, _ string) {
			fixtures.Copy(t, "program/unlinked", filepath.Join(app, programs, "Signed"))
		}, "executable", "must load it at run time"},
		{"universal program", func(t *testing.T, app, _ string) {
			fixtures.Copy(t, "program/universal", filepath.Join(app, programs, "Signed"))
			putParts(t, app, fixtures.Prefix(t), false)
		}, "executable", "the x86_64 part will not start"},
		{"another run path comes first", func(t *testing.T, app, _ string) {
			path := filepath.Join(app, programs, "Signed")
			data, err := read(t, fixtures.Path("program/linked")).rewrite(func(*Slice) edits {
				return edits{runPaths: []string{"/usr/local/lib", frameworksPath}}
			})
			if err != nil {
				t.Fatal(err)
			}
			change(t, path, func([]byte) []byte { return data })
		}, "executable", "searches /usr/local/lib first"},
		{"old kernels for a new system", func(t *testing.T, app, _ string) {
			bundletest.Write(t, filepath.Join(app, infoFile), bundletest.Info("Signed", "26.2"))
		}, "nax", "though the app is for macOS 26.2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			app, dir := signedApp(t)
			test.spoil(t, app, dir)
			_, found := check(t, app)
			f := found[test.finding]
			if f.Failed() || !strings.Contains(f.Text+"\n"+strings.Join(f.Detail, "\n"), test.words) {
				t.Errorf("got %+v", f)
			}
		})
	}
}
