// Package bundle adds the native parts of mlxrank to a macOS app, and checks an app
// that contains them. It runs on any system, because it uses none of Apple's
// tools. It cannot sign; it returns the commands that do.
package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"howett.net/plist"
)

// Paths in an app.
const (
	infoFile      = "Contents/Info.plist"
	programs      = "Contents/MacOS"
	frameworks    = "Contents/Frameworks"
	metallibFile  = "Contents/Resources/mlx.metallib"
	ownResources  = "Contents/Resources/mlxrank"
	encoderFolder = ownResources + "/models/" + encoderName
	sealFile      = "Contents/_CodeSignature/CodeResources"
)

// Names of the native parts and of the builtin model's encoder.
const (
	engineLibrary = "libmlxr.dylib"
	shimLibrary   = "libmlxrank.dylib"
	mlxLibrary    = "libmlx.dylib"
	kernels       = "mlx.metallib"
	noticesFile   = "THIRD_PARTY_NOTICES.txt"
	licenseFile   = "LICENSE"
	encoderName   = "all-MiniLM-L6-v2" // weights.BuiltinEncoder
)

// frameworksPath is the run path with which an app's executable finds its libraries.
const frameworksPath = "@executable_path/../Frameworks"

// App is the folder of a macOS app. Its files are named by slash-separated paths
// relative to the folder. Links are followed, but never out of the folder.
type App struct {
	Path       string
	Identifier string
	Minimum    Version // oldest macOS that the app runs on
	MinimumBy  string  // where Minimum was read from

	root       *os.Root
	executable string // path of the main executable
	program    *Binary
}

// Open reads Info.plist and the main executable. The caller closes the app.
func Open(folder string) (*App, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return nil, fmt.Errorf("the app: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder, expected an app such as Foo.app", folder)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	a := &App{Path: filepath.Clean(folder), root: root}
	if err := a.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", a.Path, err), root.Close())
	}
	return a, nil
}

// Close closes the folder.
func (a *App) Close() error { return a.root.Close() }

func (a *App) read() error {
	data, err := a.readFile(infoFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: this is not a macOS app, or it is not built yet", infoFile)
	}
	if err != nil {
		return err
	}
	var info struct {
		Identifier string `plist:"CFBundleIdentifier"`
		Executable string `plist:"CFBundleExecutable"`
		Minimum    string `plist:"LSMinimumSystemVersion"`
	}
	if _, err := plist.Unmarshal(data, &info); err != nil {
		return fmt.Errorf("%s cannot be read: %w", infoFile, err)
	}
	if info.Executable == "" || info.Executable != path.Base(info.Executable) || info.Executable == ".." || info.Executable == "." {
		return fmt.Errorf("%s: CFBundleExecutable is %q, expected the name of a file in %s", infoFile, info.Executable, programs)
	}
	a.Identifier = info.Identifier
	if a.executable, err = a.resolve(programs + "/" + info.Executable); err != nil {
		return err
	}
	if a.program, err = a.binary(a.executable); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the main executable %s, named in %s, is missing", a.executable, infoFile)
	} else if err != nil {
		return err
	}
	return a.readMinimum(info.Minimum)
}

// readMinimum sets the oldest macOS from Info.plist, or else from the main
// executable.
func (a *App) readMinimum(text string) error {
	own := a.program.Arch(arm64)
	if text == "" {
		if own == nil || own.Minimum == (Version{}) {
			return fmt.Errorf("%s has no LSMinimumSystemVersion and the main executable has no minimum macOS for arm64: set the deployment target of the app", infoFile)
		}
		a.Minimum, a.MinimumBy = own.Minimum, "the main executable, without LSMinimumSystemVersion"
		return nil
	}
	minimum, err := parseVersion(text)
	if err != nil {
		return fmt.Errorf("%s: LSMinimumSystemVersion: %w", infoFile, err)
	}
	a.Minimum, a.MinimumBy = minimum, "LSMinimumSystemVersion"
	return nil
}

// resolve follows links at the end of a path. os.Root follows the links before it
// and keeps them inside the app.
func (a *App) resolve(name string) (string, error) {
	for range 16 {
		info, err := a.root.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", a.explain(name, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return name, nil
		}
		target, err := a.root.Readlink(name)
		if err != nil {
			return "", a.explain(name, err)
		}
		next := path.Join(path.Dir(name), filepath.ToSlash(target))
		if path.IsAbs(target) || !fs.ValidPath(next) {
			return "", fmt.Errorf("%s is a link to %s, out of the app: replace it by a file in the app", name, target)
		}
		name = next
	}
	return "", fmt.Errorf("%s is a circular link", name)
}

// explain replaces the error of os.Root about a link that leads out of it.
func (a *App) explain(name string, err error) error {
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") {
		return fmt.Errorf("%s: a link in this path leads out of the app: replace it by a folder in the app", name)
	}
	return err
}

func (a *App) open(name string) (*os.File, error) {
	file, err := a.root.Open(name)
	return file, a.explain(name, err)
}

func (a *App) readFile(name string) ([]byte, error) {
	info, err := a.root.Stat(name)
	if err != nil {
		return nil, a.explain(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return a.root.ReadFile(name)
}

// binary reads a Mach-O file in the app.
func (a *App) binary(name string) (*Binary, error) {
	data, err := a.readFile(name)
	if err != nil {
		return nil, err
	}
	b, err := parseBinary(data)
	if err != nil {
		return nil, fmt.Errorf("%s %w", name, err)
	}
	return b, nil
}

// metallib reads the file of Metal kernels in the app.
func (a *App) metallib() (*Metallib, error) {
	file, err := a.open(metallibFile)
	if err != nil {
		return nil, err
	}
	return readMetallib(file, metallibFile)
}

// exists reports whether a path leads to a file, directly or through links.
func (a *App) exists(name string) bool {
	_, err := a.root.Stat(name)
	return err == nil
}
