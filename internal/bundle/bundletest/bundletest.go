// Package bundletest makes apps and folders of libraries for tests. The files come
// from internal/bundle/testdata/make.py.
package bundletest

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// Unpack unpacks a zip file into a new folder and returns the folder.
func Unpack(t testing.TB, archive string) string {
	t.Helper()
	dir := t.TempDir()
	z, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range z.File {
		if err := unpack(member, filepath.Join(dir, filepath.FromSlash(member.Name))); err != nil {
			t.Fatal(errors.Join(err, z.Close()))
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func unpack(member *zip.File, path string) error {
	in, err := member.Open()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	return write(path, data, member.Mode())
}

func write(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, mode)
}

// Fixtures maps the names in fixtures.zip to files.
type Fixtures struct{ Dir string }

// Open unpacks the fixtures.zip of a folder.
func Open(t testing.TB, testdata string) Fixtures {
	t.Helper()
	return Fixtures{Unpack(t, filepath.Join(testdata, "fixtures.zip"))}
}

// Path returns the path of a fixture.
func (f Fixtures) Path(name string) string { return filepath.Join(f.Dir, filepath.FromSlash(name)) }

// Copy copies a fixture to a path, as an executable file.
func (f Fixtures) Copy(t testing.TB, name, path string) {
	t.Helper()
	data, err := os.ReadFile(f.Path(name))
	if err == nil {
		err = write(path, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// App makes an app in a new folder. Its main executable is a fixture; minimum is the
// oldest macOS that it runs on.
func (f Fixtures) App(t testing.TB, name, program, minimum string) string {
	t.Helper()
	app := filepath.Join(t.TempDir(), name)
	f.Copy(t, program, filepath.Join(app, "Contents", "MacOS", "Foo"))
	Write(t, filepath.Join(app, "Contents", "Info.plist"), Info("Foo", minimum))
	return app
}

// Info returns an Info.plist.
func Info(executable, minimum string) string {
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<plist version="1.0"><dict>
	<key>CFBundleExecutable</key><string>%s</string>
	<key>CFBundleIdentifier</key><string>org.example.foo</string>
	<key>LSMinimumSystemVersion</key><string>%s</string>
</dict></plist>
`, executable, minimum)
}

// Write writes a file and makes its folders.
func Write(t testing.TB, path, text string) {
	t.Helper()
	if err := write(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Prefix makes the folder of a release, with both builds of MLX and dummy files
// instead of a model.
func (f Fixtures) Prefix(t testing.TB) string {
	t.Helper()
	prefix := t.TempDir()
	for name, place := range map[string]string{
		"old/libmlxr.dylib":    "lib/libmlxr.dylib",
		"old/libmlxrank.dylib": "lib/mlxrank/libmlxrank.dylib",
		"old/libmlx.dylib":     "lib/mlxrank/libmlx.dylib",
		"old/mlx.metallib":     "lib/mlxrank/mlx.metallib",
		"new/libmlx.dylib":     "lib/mlxrank/macos26/libmlx.dylib",
		"new/libjaccl.dylib":   "lib/mlxrank/macos26/libjaccl.dylib",
		"new/mlx.metallib":     "lib/mlxrank/macos26/mlx.metallib",
	} {
		f.Copy(t, name, filepath.Join(prefix, place))
	}
	shared := filepath.Join(prefix, "share", "mlxrank")
	for _, name := range []string{
		"THIRD_PARTY_NOTICES.txt", "LICENSE", "models/all-MiniLM-L6-v2/config.json",
		"models/all-MiniLM-L6-v2/tokenizer.json", "models/all-MiniLM-L6-v2/model.safetensors",
	} {
		Write(t, filepath.Join(shared, name), name)
	}
	return prefix
}
