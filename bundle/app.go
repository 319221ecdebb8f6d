// Package bundle puts the native parts of mlxrank into a macOS app, and checks
// an app that has them. It works on any system: it reads and writes the files
// itself and runs none of Apple's tools. What it cannot do is sign, for which
// it names the commands.
package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"howett.net/plist"
)

// Where things lie in an app.
const (
	infoFile      = "Contents/Info.plist"
	programs      = "Contents/MacOS"
	frameworks    = "Contents/Frameworks"
	metallibFile  = "Contents/Resources/mlx.metallib"
	ownResources  = "Contents/Resources/mlxrank"
	encoderFolder = ownResources + "/models/" + encoderName
	sealFile      = "Contents/_CodeSignature/CodeResources"
)

// The native parts, and the model that needs no download.
const (
	engineLibrary = "libmlxr.dylib"
	shimLibrary   = "libmlxrank.dylib"
	mlxLibrary    = "libmlx.dylib"
	kernels       = "mlx.metallib"
	noticesFile   = "THIRD_PARTY_NOTICES.txt"
	licenseFile   = "LICENSE"
	encoderName   = "all-MiniLM-L6-v2"
)

// frameworksPath is how an app's executable finds its libraries.
const frameworksPath = "@executable_path/../Frameworks"

// App is the folder of a macOS app. Files in it are named with slashes, from
// the folder on. Links in it are followed, but never out of it.
type App struct {
	Path       string
	Identifier string
	Minimum    Version // of macOS that it runs on
	MinimumBy  string  // where that was said

	root       *os.Root
	executable string // the main executable
	program    *Binary
}

// Open reads Info.plist and the main executable. The app is to be closed.
func Open(folder string) (*App, error) {
	info, err := os.Stat(folder)
	if err != nil {
		return nil, fmt.Errorf("the app: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder: name an app, such as Foo.app", folder)
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

// Close gives the folder back.
func (a *App) Close() error { return a.root.Close() }

func (a *App) read() error {
	data, err := a.readFile(infoFile)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is missing: this is no macOS app, or it is not built yet", infoFile)
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
		return fmt.Errorf("the main executable %s, which %s names, is missing", a.executable, infoFile)
	} else if err != nil {
		return err
	}
	return a.readMinimum(info.Minimum)
}

// readMinimum takes the oldest macOS from Info.plist, or else from the main
// executable.
func (a *App) readMinimum(said string) error {
	own := a.program.Arch(arm64)
	if said == "" {
		if own == nil || own.Minimum == (Version{}) {
			return fmt.Errorf("%s has no LSMinimumSystemVersion, and the main executable has no minimum macOS for arm64 either: set the deployment target of the app", infoFile)
		}
		a.Minimum, a.MinimumBy = own.Minimum, "the main executable, for want of LSMinimumSystemVersion"
		return nil
	}
	minimum, err := parseVersion(said)
	if err != nil {
		return fmt.Errorf("%s: LSMinimumSystemVersion: %w", infoFile, err)
	}
	a.Minimum, a.MinimumBy = minimum, "LSMinimumSystemVersion"
	return nil
}

// resolve follows links at the end of a name. Those before it are followed, and
// kept inside the app, by os.Root.
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
			return "", fmt.Errorf("%s is a link to %s, which is outside of the app: nothing is read or written there", name, target)
		}
		name = next
	}
	return "", fmt.Errorf("%s is a link that leads in a circle", name)
}

// explain words what os.Root says of a link that leads out of it.
func (a *App) explain(name string, err error) error {
	if err != nil && strings.Contains(err.Error(), "path escapes from parent") {
		return fmt.Errorf("%s: a link on the way leads outside of the app: nothing is read or written there", name)
	}
	return err
}

func (a *App) open(name string) (*os.File, error) {
	file, err := a.root.Open(name)
	return file, a.explain(name, err)
}

func (a *App) readFile(name string) (data []byte, err error) {
	file, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return io.ReadAll(file)
}

// binary reads a Mach-O file of the app.
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

// metallib reads Metal's kernels in the app.
func (a *App) metallib() (*Metallib, error) {
	file, err := a.open(metallibFile)
	if err != nil {
		return nil, err
	}
	return readMetallib(file, metallibFile)
}

// exists reports whether there is a file of a name, or a link that leads to one.
func (a *App) exists(name string) bool {
	_, err := a.root.Stat(name)
	return err == nil
}
