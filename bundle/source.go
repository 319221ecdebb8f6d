package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Source is where the parts are taken from: a build tree, or what was installed
// or unpacked of a release.
type Source struct {
	Libraries string // folder of libmlxrank and libmlx
	Newer     string // of libmlx and kernels for macOS 26.2; "" if there is none
	Engine    string // libmlxr.dylib
	Notices   string
	License   string
	Encoder   string // folder; "" if there is none
}

// newerFolder is where the variant of MLX with kernels for M5 lies, in the
// folder of the libraries.
const newerFolder = "macos26"

// ErrNoSource says that the parts were not found where they were looked for.
var ErrNoSource = errors.New("no libraries for macOS")

// FindSource looks for the parts in the first of the folders that has them. A
// folder is one with libmlxrank, or has lib/mlxrank (a release, or a prefix
// it was installed to) or lib (a build tree) that is one.
func FindSource(folders []string) (*Source, error) {
	var tried []string
	for _, folder := range folders {
		for _, below := range []string{"", "lib/mlxrank", "lib"} {
			libraries := filepath.Join(folder, below)
			if isFile(filepath.Join(libraries, shimLibrary)) {
				return sourceAt(libraries)
			}
			tried = append(tried, libraries)
		}
	}
	return nil, fmt.Errorf("%w: there is no %s in %s", ErrNoSource, shimLibrary, strings.Join(tried, ", "))
}

// sourceAt finds the other parts, by the folder of libmlxrank.
func sourceAt(libraries string) (*Source, error) {
	s := &Source{Libraries: libraries}
	if newer := filepath.Join(libraries, newerFolder); isFile(filepath.Join(newer, mlxLibrary)) && isFile(filepath.Join(newer, kernels)) {
		s.Newer = newer
	}
	var missing []error
	find := func(name string, places ...string) string {
		for i, place := range places {
			places[i] = filepath.Join(libraries, place, name)
			if _, err := os.Stat(places[i]); err == nil {
				return places[i]
			}
		}
		missing = append(missing, fmt.Errorf("%s is in none of %s: %w", name, strings.Join(places, ", "), fs.ErrNotExist))
		return ""
	}
	const shared = "../../share/mlxrank" // of a prefix
	s.Encoder = find(encoderName, shared+"/models", "../models", "models")
	missing = nil // it need not be there
	s.Engine = find(engineLibrary, "", "..", "../capi/lib")
	s.Notices = find(noticesFile, shared, "..", "")
	s.License = find(licenseFile, shared, "../..", "")
	return s, errors.Join(missing...)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// variant is the folder of libmlx and its kernels for apps from a macOS on, and
// why it is that one.
func (s *Source) variant(minimum Version) (folder, why string) {
	switch {
	case minimum.Less(nax):
		return s.Libraries, fmt.Sprintf("MLX as built for older systems, since the app runs from macOS %v on: without kernels for the matrix units of M5, which need macOS %v", minimum, nax)
	case s.Newer == "":
		return s.Libraries, fmt.Sprintf("MLX as built for older systems, since there is none in %s: without kernels for the matrix units of M5", filepath.Join(s.Libraries, newerFolder))
	}
	return s.Newer, fmt.Sprintf("MLX as built for macOS %v, since the app runs from macOS %v on: with kernels for the matrix units of M5", nax, minimum)
}
