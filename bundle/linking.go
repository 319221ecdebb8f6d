package bundle

import (
	"debug/macho"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// runPath is a run path with the folder of the file that has it.
type runPath struct{ path, folder string }

func (s *Slice) runPathsIn(folder string) []runPath {
	paths := make([]runPath, len(s.RunPaths))
	for i, p := range s.RunPaths {
		paths[i] = runPath{p, folder}
	}
	return paths
}

// locate returns the file of the app that dyld takes for a library's name in a
// file of folder, "" if there is none. has reports what there is.
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

// expand turns a name that is relative to the executable or to the file itself
// into a file of the app, "" if it is neither or leads out.
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

// outside lists the run paths before the one that leads to name's file: on a
// Mac that has a file of the name there, it is the one that is loaded.
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

// Bits of a symbol's type and description.
const (
	symbolExternal = 0x01
	symbolPrivate  = 0x10
	symbolDefined  = 0x0e
	symbolWeakRef  = 0x40
)

// wants lists the symbols that the slice takes from a library. The ordinal of a
// library is in the upper byte of the symbol's description.
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

// exports lists the symbols that a library has for others; none if they were
// stripped from its table.
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

// lacks counts the symbols that user takes from library, and lists those that
// it does not have. It knows nothing of stripped files.
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

// mlxVersion is the one constant string of libmlx that looks like a version, ""
// if there is none or several.
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

// fits says what keeps a slice from being part of the app, "" if nothing does.
func (s *Slice) fits(kind macho.Type, minimum Version) string {
	switch {
	case s.Kind != kind:
		return "is of the kind " + kindName(s.Kind) + ", expected " + kindName(kind)
	case s.Platform != platforms[1] && s.Platform != "":
		return "is for " + s.Platform + ", expected " + platforms[1]
	case minimum.Less(s.Minimum):
		return "needs macOS " + s.Minimum.String() + ", but the app says that it runs from macOS " + minimum.String() + " on"
	}
	return ""
}

func kindName(kind macho.Type) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "Type"))
}
