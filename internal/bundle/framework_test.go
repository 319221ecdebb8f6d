package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/internal/bundle/bundletest"
)

// writeFrameworks writes the XCFrameworks of a prefix to a new folder.
func writeFrameworks(t testing.TB, prefix string) (string, error) {
	t.Helper()
	header := filepath.Join(t.TempDir(), "mlxr.h")
	bundletest.Write(t, header, "the header")
	source, err := FindSource([]string{prefix})
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	return folder, source.WriteXCFrameworks(folder, header, "1.2.3-rc.1")
}

func TestWriteXCFrameworks(t *testing.T) {
	prefix := bundletest.Open(t, "testdata").Prefix(t)
	folder, err := writeFrameworks(t, prefix)
	if err != nil {
		t.Fatal(err)
	}
	found := tree(t, folder)
	for _, test := range []struct {
		artifact, name string
		more           []string // in the framework, beside what each has
		linked         []string
	}{
		{"MLXRank", "CMLXR", []string{"Headers/mlxr.h", "Modules/module.modulemap"}, nil},
		{"MLXRankNative", "MLXRankNative", nil, []string{"@rpath/MLXRankMLX.framework/Versions/A/MLXRankMLX"}},
		{"MLXRankMLX", "MLXRankMLX", []string{"Resources/mlx.metallib"}, nil},
	} {
		bundle := test.artifact + ".xcframework/macos-arm64/" + test.name + ".framework"
		for _, name := range append(test.more, test.name, "Resources/Info.plist", "Resources/LICENSE", "Resources/THIRD_PARTY_NOTICES.txt") {
			if found[bundle+"/Versions/A/"+name] == "" {
				t.Errorf("%s lacks %s", bundle, name)
			}
			if top, _, _ := strings.Cut(name, "/"); !strings.HasSuffix(found[bundle+"/"+top], "Versions/Current/"+top) {
				t.Errorf("%s has the link %s to %q", bundle, top, found[bundle+"/"+top])
			}
		}
		path := filepath.Join(folder, filepath.FromSlash(bundle), "Versions", "Current", test.name)
		s := read(t, path).Arch(arm64)
		if want := "@rpath/" + test.name + ".framework/Versions/A/" + test.name; s.ID != want {
			t.Errorf("%s is named %s, expected %s", bundle, s.ID, want)
		}
		if s.Signature != nil && s.Signature.stale(s.data) != "" {
			t.Errorf("%s: %s", bundle, s.Signature.stale(s.data))
		}
		var linked []string
		for _, l := range s.Libraries {
			if !isSystem(l.Name) {
				linked = append(linked, l.Name)
			}
		}
		if !slices.Equal(linked, test.linked) || slices.Contains(s.RunPaths, besideFramework) != (len(linked) > 0) {
			t.Errorf("%s is linked with %q by the run paths %q", bundle, linked, s.RunPaths)
		}
		for _, word := range []string{"<string>org.mlxrank." + test.name + "</string>", "<string>1.2.3</string>", "<string>14.0</string>"} {
			if !strings.Contains(found[bundle+"/Versions/A/Resources/Info.plist"], word) {
				t.Errorf("Info.plist of %s lacks %s", bundle, word)
			}
		}
	}
	if module := found["MLXRank.xcframework/macos-arm64/CMLXR.framework/Versions/A/Modules/module.modulemap"]; !strings.Contains(module, `framework module CMLXR {`) {
		t.Errorf("module map %q", module)
	}
}

func TestWriteXCFrameworksRefuses(t *testing.T) {
	fixtures := bundletest.Open(t, "testdata")
	for _, test := range []struct {
		name, fixture, place string
		words                []string
	}{
		{"MLX that is too new", "new/libmlx.dylib", "lib/mlxrank/libmlx.dylib", []string{"needs macOS 26.2", "supports macOS 14.0"}},
		{"kernels that are too new", "new/mlx.metallib", "lib/mlxrank/mlx.metallib", []string{"needs macOS 26.2", "support macOS 14.0"}},
		{"an executable", "program/linked", "lib/libmlxr.dylib", []string{"libmlxr.dylib", "has the kind exec"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			prefix := fixtures.Prefix(t)
			fixtures.Copy(t, test.fixture, filepath.Join(prefix, test.place))
			_, err := writeFrameworks(t, prefix)
			for _, word := range test.words {
				if !strings.Contains(fmt.Sprint(err), word) {
					t.Errorf("%v, expected %q", err, word)
				}
			}
		})
	}
	prefix := fixtures.Prefix(t)
	if err := os.Remove(filepath.Join(prefix, "lib/mlxrank/mlx.metallib")); err != nil {
		t.Fatal(err)
	}
	if _, err := writeFrameworks(t, prefix); err == nil || !strings.Contains(err.Error(), "mlx.metallib") {
		t.Errorf("without kernels: %v", err)
	}
}
