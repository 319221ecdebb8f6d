package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"howett.net/plist"
)

// framework describes a library as a macOS framework in an XCFramework. Each has one
// file of code: Xcode signs a framework that it embeds, but no other code inside it.
// A library without the app's signature does not load under the hardened runtime.
type framework struct {
	name     string // name of the framework and of its library
	artifact string // name of the XCFramework, without its extension
	source   string // path of the library
	binary   *Binary
}

// frameworkMinimum is the oldest macOS of the frameworks.
var frameworkMinimum = Version{14, 0, 0}

// besideFramework is the run path with which a library in a framework finds the
// framework beside its own.
const besideFramework = "@loader_path/../../.."

func (f framework) id() string { return "@rpath/" + f.name + ".framework/Versions/A/" + f.name }

// WriteXCFrameworks writes the libraries of a source to a folder, each as a framework
// in an XCFramework for macOS on arm64. The framework of libmlxr has the header and a
// module map, the framework of MLX has Metal's kernels. The frameworks must be in one
// folder to find one another. They are not signed; a library with an ad-hoc signature
// keeps a valid one.
func (s *Source) WriteXCFrameworks(folder, header, version string) error {
	all := []framework{
		{name: "CMLXR", artifact: "MLXRank", source: s.Engine},
		{name: "MLXRankNative", artifact: "MLXRankNative", source: filepath.Join(s.Libraries, shimLibrary)},
		{name: "MLXRankMLX", artifact: "MLXRankMLX", source: filepath.Join(s.Libraries, mlxLibrary)},
	}
	byLibrary := map[string]framework{}
	for i, f := range all {
		binary, err := ReadBinary(f.source)
		if err != nil {
			return err
		}
		if err := suits(f.source, binary, frameworkMinimum); err != nil {
			return err
		}
		all[i].binary = binary
		byLibrary[filepath.Base(f.source)] = all[i]
	}
	metallib := filepath.Join(s.Libraries, kernels)
	m, err := ReadMetallib(metallib)
	if err != nil {
		return err
	}
	if needs := m.needs(); frameworkMinimum.Less(needs) {
		return fmt.Errorf("%s needs macOS %v, but the frameworks support macOS %v", metallib, needs, frameworkMinimum)
	}
	for _, f := range all {
		files := map[string]string{"Resources/" + noticesFile: s.Notices, "Resources/" + licenseFile: s.License}
		switch f.source {
		case s.Engine:
			files["Headers/"+filepath.Base(header)] = header
		case filepath.Join(s.Libraries, mlxLibrary):
			files["Resources/"+kernels] = metallib
		}
		if err := f.write(filepath.Join(folder, f.artifact+".xcframework"), byLibrary, files, version); err != nil {
			return err
		}
	}
	return nil
}

// write makes the XCFramework at a path. files maps paths in the framework to files
// to copy.
func (f framework) write(path string, byLibrary map[string]framework, files map[string]string, version string) error {
	const identifier = "macos-arm64"
	code, err := f.code(byLibrary)
	if err != nil {
		return err
	}
	bundle := filepath.Join(path, identifier, f.name+".framework")
	current := filepath.Join(bundle, "Versions", "A")
	if err := os.MkdirAll(filepath.Join(current, "Resources"), 0o755); err != nil {
		return err
	}
	tops := map[string]bool{f.name: true, "Resources": true}
	written := []error{os.WriteFile(filepath.Join(current, f.name), code, 0o755)}
	for name, from := range files {
		top, _, _ := strings.Cut(name, "/")
		tops[top] = true
		written = append(written, copyFile(from, filepath.Join(current, filepath.FromSlash(name))))
		if top == "Headers" {
			tops["Modules"] = true
			module := fmt.Sprintf("framework module %s {\n  header %q\n  export *\n}\n", f.name, filepath.Base(name))
			written = append(written, writeFile(filepath.Join(current, "Modules", "module.modulemap"), []byte(module)))
		}
	}
	numbers, _, _ := strings.Cut(version, "-") // Info.plist takes no suffix
	written = append(written,
		writePlist(filepath.Join(current, "Resources", "Info.plist"), map[string]any{
			"CFBundleDevelopmentRegion":     "en",
			"CFBundleExecutable":            f.name,
			"CFBundleIdentifier":            "org.mlxrank." + f.name,
			"CFBundleInfoDictionaryVersion": "6.0",
			"CFBundleName":                  f.name,
			"CFBundlePackageType":           "FMWK",
			"CFBundleShortVersionString":    numbers,
			"CFBundleSupportedPlatforms":    []string{"MacOSX"},
			"CFBundleVersion":               numbers,
			"LSMinimumSystemVersion":        frameworkMinimum.String(),
		}),
		writePlist(filepath.Join(path, "Info.plist"), map[string]any{
			"AvailableLibraries": []map[string]any{{
				"BinaryPath":             f.name + ".framework/Versions/A/" + f.name,
				"LibraryIdentifier":      identifier,
				"LibraryPath":            f.name + ".framework",
				"SupportedArchitectures": []string{arm64},
				"SupportedPlatform":      "macos",
			}},
			"CFBundlePackageType":      "XFWK",
			"XCFrameworkFormatVersion": "1.0",
		}),
		os.Symlink("A", filepath.Join(bundle, "Versions", "Current")))
	for top := range tops {
		written = append(written, os.Symlink("Versions/Current/"+top, filepath.Join(bundle, top)))
	}
	return errors.Join(written...)
}

// code returns the library with the names of frameworks in its load commands.
func (f framework) code(byLibrary map[string]framework) ([]byte, error) {
	own := f.binary.Arch(arm64)
	e := edits{id: f.id(), names: map[string]string{}}
	for _, l := range own.Libraries {
		if isSystem(l.Name) || l.Weak {
			continue
		}
		other, ok := byLibrary[baseName(l.Name)]
		if !ok {
			return nil, fmt.Errorf("%s is linked with %s, which is neither part of macOS nor one of the frameworks: use the libraries of a release or of make build", f.source, l.Name)
		}
		if _, missing := lacks(own, other.binary.Arch(arm64), baseName(l.Name)); len(missing) > 0 {
			return nil, fmt.Errorf("%s lacks %d symbols that %s needs, such as %s: use both from one build", other.source, len(missing), f.source, missing[0])
		}
		e.names[l.Name] = other.id()
		e.runPaths = []string{besideFramework}
	}
	code, err := f.binary.rewrite(func(*Slice) edits { return e })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.source, err)
	}
	return code, nil
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, data)
}

func writePlist(path string, value any) error {
	data, err := plist.MarshalIndent(value, plist.XMLFormat, "\t")
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
