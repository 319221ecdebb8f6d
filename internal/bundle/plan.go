package bundle

import (
	"bytes"
	"debug/macho"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Values of File.State.
const (
	New       = "new"
	Replaced  = "replaced"
	Unchanged = "unchanged"
)

// File describes a file of the app that mlxrank adds or changes.
type File struct {
	Target string // path in the app
	Source string // path on this machine; "" for a file of the app that is changed
	State  string
	Size   int64
	Notes  []string // changes to the file
	data   []byte   // contents, if they are not a copy of Source
	mode   fs.FileMode
}

// Plan lists the changes to an app. All checks of the parts have passed.
type Plan struct {
	Files   []File
	Variant string   // which MLX, and why
	Notes   []string // hints for the app's author
	Sign    []string // commands that sign, in order
	app     *App
}

// Plan checks that the parts fit the app and returns the necessary changes. It
// changes nothing.
func (a *App) Plan(source *Source, withBuiltin bool) (*Plan, error) {
	p := &Plan{app: a}
	own := a.program.Arch(arm64)
	if own == nil {
		return nil, fmt.Errorf("%s: %s is for %s, expected arm64 as mlxrank's libraries: build the app for arm64", a.Path, a.executable, a.program.archs())
	}
	if own.Kind != macho.TypeExec {
		return nil, fmt.Errorf("%s: %s has the kind %s, expected %s", a.Path, a.executable, kindName(own.Kind), kindName(macho.TypeExec))
	}
	folder, why := source.variant(a.Minimum)
	p.Variant = why
	libraries, err := p.addLibraries(source, folder)
	var problems []error
	problems = append(problems, err)
	problems = append(problems, p.addMetallib(filepath.Join(folder, kernels)))
	problems = append(problems, p.addCopy(source.Notices, ownResources+"/"+noticesFile), p.addCopy(source.License, ownResources+"/"+licenseFile))
	if withBuiltin {
		problems = append(problems, p.addEncoder(source))
	}
	problems = append(problems, p.changeProgram())
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	slices.SortFunc(p.Files, func(x, y File) int { return strings.Compare(x.Target, y.Target) })
	p.Sign = p.commands(libraries)
	return p, nil
}

// origin is a library to copy.
type origin struct {
	path   string
	binary *Binary
}

// addLibraries plans the libraries and the libraries that they are linked with and
// that macOS does not have. It returns their names, each after the names of the
// libraries that it is linked with.
func (p *Plan) addLibraries(source *Source, mlxFolder string) ([]string, error) {
	found := map[string]origin{}
	var order []string
	var problems []error
	var add func(file string)
	add = func(file string) {
		name := filepath.Base(file)
		if _, ok := found[name]; ok {
			return
		}
		b, err := ReadBinary(file)
		if err == nil {
			err = suits(file, b, p.app.Minimum)
		}
		found[name] = origin{file, b}
		if err != nil {
			problems = append(problems, err)
			return
		}
		for _, l := range b.Arch(arm64).Libraries {
			if needed := filepath.Join(filepath.Dir(file), baseName(l.Name)); !isSystem(l.Name) && !l.Weak {
				if _, ours := found[baseName(l.Name)]; !ours && !isFile(needed) {
					problems = append(problems, fmt.Errorf("%s is linked with %s, which is neither part of macOS nor in the same folder: use the libraries of a release or of make build", file, l.Name))
					continue
				}
				add(needed)
			}
		}
		order = append(order, name)
	}
	// MLX first, so that the shim finds this variant of it.
	for _, file := range []string{filepath.Join(mlxFolder, mlxLibrary), filepath.Join(source.Libraries, shimLibrary), source.Engine} {
		add(file)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, name := range order {
		problems = append(problems, p.addLibrary(name, found))
	}
	return order, errors.Join(problems...)
}

// suits rejects a library that cannot be part of the app.
func suits(file string, b *Binary, minimum Version) error {
	s := b.Arch(arm64)
	if s == nil {
		return fmt.Errorf("%s is for %s, expected %s", file, b.archs(), arm64)
	}
	if why := s.fits(macho.TypeDylib, minimum); why != "" {
		advice := ""
		if minimum.Less(s.Minimum) {
			advice = "; raise LSMinimumSystemVersion, or use libraries for older systems"
		}
		return fmt.Errorf("%s %s%s", file, why, advice)
	}
	return nil
}

// addLibrary plans one library. It changes the names in it to an app's.
func (p *Plan) addLibrary(name string, found map[string]origin) error {
	from := found[name]
	for _, l := range from.binary.Arch(arm64).Libraries {
		other, ours := found[baseName(l.Name)]
		if !ours {
			continue
		}
		if _, missing := lacks(from.binary.Arch(arm64), other.binary.Arch(arm64), baseName(l.Name)); len(missing) > 0 {
			return fmt.Errorf("%s lacks %d symbols that %s needs, such as %s: use both from one build", other.path, len(missing), from.path, missing[0])
		}
	}
	var notes []string
	data, err := from.binary.rewrite(func(s *Slice) edits {
		e := edits{id: "@rpath/" + name, names: map[string]string{}}
		if s.ID != e.id {
			notes = append(notes, fmt.Sprintf("named %s, was %s", e.id, s.ID))
		}
		for _, l := range s.Libraries {
			if _, ours := found[baseName(l.Name)]; !ours {
				continue
			}
			here := "@loader_path/" + baseName(l.Name)
			e.names[l.Name] = here
			if l.Name != here {
				notes = append(notes, fmt.Sprintf("linked with %s, was %s", here, l.Name))
			}
		}
		return e
	})
	if err != nil {
		return fmt.Errorf("%s: %w", from.path, err)
	}
	target, err := p.app.resolve(frameworks + "/" + name)
	if err != nil {
		return err
	}
	file := File{Target: target, Source: from.path, State: Replaced, Size: int64(len(data)), Notes: notes, data: data, mode: 0o755}
	old, err := p.app.readFile(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file.State = New
	case err != nil:
		return err
	default:
		same, err := sameCode(data, old)
		if err != nil {
			return fmt.Errorf("%s: after changing its names: %w", from.path, err)
		}
		if same {
			file.State, file.Notes = Unchanged, nil
		}
	}
	p.Files = append(p.Files, file)
	return nil
}

func (p *Plan) addMetallib(from string) error {
	m, err := ReadMetallib(from)
	if err != nil {
		return err
	}
	if needs := m.needs(); p.app.Minimum.Less(needs) {
		return fmt.Errorf("%s needs macOS %v, but the app supports macOS %v", from, needs, p.app.Minimum)
	}
	return p.addCopy(from, metallibFile)
}

// addEncoder plans the files of the builtin model's encoder.
func (p *Plan) addEncoder(source *Source) error {
	if source.Encoder == "" {
		return fmt.Errorf("found no encoder %s of the builtin model near %s", encoderName, source.Libraries)
	}
	return filepath.WalkDir(source.Encoder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(source.Encoder, file)
		if err != nil {
			return err
		}
		return p.addCopy(file, encoderFolder+"/"+filepath.ToSlash(name))
	})
}

// addCopy plans an unchanged copy of a file.
func (p *Plan) addCopy(from, target string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if target, err = p.app.resolve(target); err != nil {
		return err
	}
	file := File{Target: target, Source: from, State: Replaced, Size: info.Size(), mode: 0o644}
	same, err := p.app.sameContent(from, target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		file.State = New
	case err != nil:
		return err
	case same:
		file.State = Unchanged
	}
	p.Files = append(p.Files, file)
	return nil
}

// sameContent reports whether a file equals a file of the app.
func (a *App) sameContent(from, target string) (same bool, err error) {
	old, err := a.open(target)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	planned, err := os.Open(from)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, planned.Close()) }()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errX := io.ReadFull(old, x)
		m, errY := io.ReadFull(planned, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		for _, err := range []error{errX, errY} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, err
			}
		}
		if errX != nil && errY != nil {
			return true, nil
		}
	}
}

// changeProgram plans the changes with which the main executable finds the library
// that it is linked with.
func (p *Plan) changeProgram() error {
	a := p.app
	var notes []string
	linked := false
	data, err := a.program.rewrite(func(s *Slice) edits {
		library, ok := s.links(engineLibrary)
		if !ok {
			return edits{}
		}
		name := library.Name
		linked = true
		if s.Arch != arm64 && !library.Weak {
			p.Notes = append(p.Notes, fmt.Sprintf("the %s part of %s is linked with %s, which is only for arm64: that part will not start", s.Arch, a.executable, engineLibrary))
		}
		there := func(file string) bool { return file == frameworks+"/"+engineLibrary }
		if locate(name, path.Dir(a.executable), s.runPathsIn(path.Dir(a.executable)), there) != "" {
			return edits{}
		}
		e := edits{names: map[string]string{name: "@rpath/" + engineLibrary}}
		if name != e.names[name] {
			notes = append(notes, fmt.Sprintf("%s: linked with %s, was %s", s.Arch, e.names[name], name))
		}
		if !slices.Contains(s.RunPaths, frameworksPath) {
			e.runPaths = []string{frameworksPath}
			notes = append(notes, s.Arch+": run path "+frameworksPath+" added")
		}
		return e
	})
	if err != nil {
		return fmt.Errorf("%s: %w; or in Xcode add %s to Runpath Search Paths", a.executable, err, frameworksPath)
	}
	if !linked {
		p.Notes = append(p.Notes, fmt.Sprintf("%s is not linked with %s: the app must load it at run time", a.executable, engineLibrary))
	}
	if len(notes) == 0 {
		return nil
	}
	info, err := a.root.Stat(a.executable)
	if err != nil {
		return a.explain(a.executable, err)
	}
	p.Files = append(p.Files, File{Target: a.executable, State: Replaced, Size: int64(len(data)), Notes: notes, data: data, mode: info.Mode().Perm()})
	return nil
}
