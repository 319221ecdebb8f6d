package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Source holds the paths of the parts to copy, in a build tree, an installation or
// an unpacked release.
type Source struct {
	Libraries string // folder of libmlxrank and libmlx
	Newer     string // folder of libmlx and kernels for macOS 26.2; "" for none
	Engine    string // file libmlxr.dylib
	Notices   string
	License   string
	Encoder   string // folder of the builtin model's encoder; "" for none
}

// newerFolder is the folder of the variant of MLX with kernels for M5, inside the
// folder of the libraries.
const newerFolder = "macos26"

// ErrNoSource reports that FindSource found no libraries.
var ErrNoSource = errors.New("no libraries for macOS")

// FindSource returns the parts in the first folder that has them. libmlxrank is in
// the folder itself, in its lib/mlxrank (a release or an installation prefix), or
// in its lib (a build tree).
func FindSource(folders []string) (*Source, error) {
	var tried []string
	for _, folder := range folders {
		for _, below := range []string{"", "lib/mlxrank", "lib"} {
			libraries := filepath.Join(folder, below)
			if isFile(filepath.Join(libraries, shimLibrary)) {
				return newSource(libraries)
			}
			tried = append(tried, libraries)
		}
	}
	return nil, fmt.Errorf("%w: found no %s in %s", ErrNoSource, shimLibrary, strings.Join(tried, ", "))
}

// newSource finds the other parts, relative to the folder of libmlxrank.
func newSource(libraries string) (*Source, error) {
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
	const shared = "../../share/mlxrank" // of an installation prefix
	s.Encoder = find(encoderName, shared+"/models", "../models", "models")
	missing = nil // the encoder is optional
	s.Engine = find(engineLibrary, "", "..", "../capi/lib")
	s.Notices = find(noticesFile, shared, "..", "")
	s.License = find(licenseFile, shared, "../..", "")
	return s, errors.Join(missing...)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// variant returns the folder of libmlx and its kernels for an app's oldest macOS,
// and the reason.
func (s *Source) variant(minimum Version) (folder, why string) {
	switch {
	case minimum.Less(nax):
		return s.Libraries, fmt.Sprintf("MLX for older systems, because the app runs on macOS %v: without kernels for the matrix units of M5, which need macOS %v", minimum, nax)
	case s.Newer == "":
		return s.Libraries, fmt.Sprintf("MLX for older systems, because %s has no MLX: without kernels for the matrix units of M5", filepath.Join(s.Libraries, newerFolder))
	}
	return s.Newer, fmt.Sprintf("MLX for macOS %v, because the app needs macOS %v or newer: with kernels for the matrix units of M5", nax, minimum)
}
