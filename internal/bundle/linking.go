package bundle

import (
	"debug/macho"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// runPath is a run path and the folder of the file that contains it.
type runPath struct{ path, folder string }

func (s *Slice) runPathsIn(folder string) []runPath {
	paths := make([]runPath, len(s.RunPaths))
	for i, p := range s.RunPaths {
		paths[i] = runPath{p, folder}
	}
	return paths
}

// locate returns the file of the app that dyld loads for a library's name in a file
// of folder, "" if there is none. has reports whether a file exists.
func locate(name, folder string, paths []runPath, has func(string) bool) string {
	rest, relative := strings.CutPrefix(name, "@rpath/")
	if !relative {
		if file := expand(name, folder); file != "" && has(file) {
			return file
		}
		return ""
	}
	for _, p := range paths {
		if file := expand(p.path+"/"+rest, p.folder); file != "" && has(file) {
			return file
		}
	}
	return ""
}

// expand converts a name that is relative to the executable or to the loading file
// to a path in the app. It returns "" for other names and names outside of the app.
func expand(name, folder string) string {
	if rest, ok := strings.CutPrefix(name, "@executable_path/"); ok {
		name = path.Join(programs, rest)
	} else if rest, ok := strings.CutPrefix(name, "@loader_path/"); ok {
		name = path.Join(folder, rest)
	} else {
		return ""
	}
	if !fs.ValidPath(name) {
		return ""
	}
	return name
}

// outside returns the absolute run paths before the one that finds name's file.
// On a Mac with a file of that name in such a path, dyld loads that file.
func outside(name string, paths []runPath, has func(string) bool) []string {
	rest, relative := strings.CutPrefix(name, "@rpath/")
	if !relative {
		return nil
	}
	var found []string
	for _, p := range paths {
		if file := expand(p.path+"/"+rest, p.folder); file != "" && has(file) {
			break
		}
		if path.IsAbs(p.path) {
			found = append(found, p.path)
		}
	}
	return found
}

// Bits of the type and the description of a symbol.
const (
	symbolExternal = 0x01
	symbolPrivate  = 0x10
	symbolDefined  = 0x0e
	symbolWeakRef  = 0x40
)

// wants returns the symbols that the slice imports from a library. The upper byte of
// a symbol's description is the ordinal of its library.
func (s *Slice) wants(file string) []string {
	ordinal := 1 + slices.IndexFunc(s.Libraries, func(l Library) bool { return baseName(l.Name) == file })
	if s.symbols == nil || ordinal == 0 {
		return nil
	}
	var names []string
	for _, sym := range s.symbols.Syms {
		if sym.Type&symbolExternal != 0 && sym.Type&symbolDefined == 0 && int(sym.Desc>>8) == ordinal && sym.Desc&symbolWeakRef == 0 {
			names = append(names, sym.Name)
		}
	}
	return names
}

// exports returns the exported symbols of a library, or none if its symbol table was
// stripped.
func (s *Slice) exports() map[string]bool {
	found := map[string]bool{}
	if s.symbols == nil {
		return found
	}
	for _, sym := range s.symbols.Syms {
		if sym.Type&symbolExternal != 0 && sym.Type&symbolPrivate == 0 && sym.Type&symbolDefined != 0 {
			found[sym.Name] = true
		}
	}
	return found
}

// lacks counts the symbols that user imports from library and returns those that
// library does not export. It reports none for a stripped library.
func lacks(user, library *Slice, file string) (wanted int, missing []string) {
	exports := library.exports()
	if len(exports) == 0 {
		return 0, nil
	}
	names := user.wants(file)
	for _, name := range names {
		if !exports[name] {
			missing = append(missing, name)
		}
	}
	return len(names), missing
}

var versionText = regexp.MustCompile(`^\d+\.\d+\.\d+$`)

// mlxVersion returns the only constant string of libmlx that looks like a version,
// "" if there is none or more than one.
func (s *Slice) mlxVersion() string {
	version := ""
	for text := range strings.SplitSeq(string(s.strings), "\x00") {
		switch {
		case !versionText.MatchString(text):
		case version != "":
			return ""
		default:
			version = text
		}
	}
	return version
}

// fits describes why a slice cannot be part of the app, "" if it can.
func (s *Slice) fits(kind macho.Type, minimum Version) string {
	switch {
	case s.Kind != kind:
		return "has the kind " + kindName(s.Kind) + ", expected " + kindName(kind)
	case s.Platform != platforms[1] && s.Platform != "":
		return "is for " + s.Platform + ", expected " + platforms[1]
	case minimum.Less(s.Minimum):
		return "needs macOS " + s.Minimum.String() + ", but the app supports macOS " + minimum.String()
	}
	return ""
}

func kindName(kind macho.Type) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "Type"))
}
