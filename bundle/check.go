package bundle

import (
	"bytes"
	"debug/macho"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Finding is one thing that Check looked at.
type Finding struct {
	Name   string
	Text   string   // what was found, or what is wrong
	Detail []string // further lines
	Remedy string   // what to do; a finding with a remedy is a failure
}

// Failed reports whether something is wrong.
func (f Finding) Failed() bool { return f.Remedy != "" }

// part is a library in the app.
type part struct {
	name, file string
	slice      *Slice
	fault      Finding // a failure, if it cannot be part of the app
}

// again names the command that puts the parts in.
func (a *App) again() string { return "run mlxrank bundle --app " + quoted(a.Path) }

// Check looks at an app that is to have mlxrank in it, ready to be shipped.
func (a *App) Check() []Finding {
	parts, findings := a.libraries()
	all := []Finding{
		{Name: "app", Text: fmt.Sprintf("%s, for macOS %v and newer (by %s)", a.Identifier, a.Minimum, a.MinimumBy)},
		a.checkProgram(),
	}
	all = append(all, findings...)
	all = append(all, a.checkSymbols(parts), checkMLX(parts))
	all = append(all, a.checkMetallib(parts)...)
	return append(all, a.checkSignatures(parts), a.checkTeam(parts), a.checkSandbox(), a.checkSeal(parts), a.checkNotices(), a.checkBuiltin())
}

// checkProgram looks at the main executable and how it finds the library.
func (a *App) checkProgram() Finding {
	f := Finding{Name: "executable", Text: fmt.Sprintf("%s, for %s", a.executable, a.program.archs())}
	own := a.program.Arch(arm64)
	if own == nil {
		f.Text, f.Remedy = f.Text+", expected "+arm64, "build the app for arm64"
		return f
	}
	if why := own.fits(macho.TypeExec, a.Minimum); why != "" {
		f.Text, f.Remedy = f.Text+": "+why, "build the app for the macOS that LSMinimumSystemVersion names"
		return f
	}
	library, linked := own.links(engineLibrary)
	if !linked {
		f.Detail = append(f.Detail, "not linked with "+engineLibrary+": it, or a library of its own, must load it at run time")
		return f
	}
	folder := path.Dir(a.executable)
	paths := own.runPathsIn(folder)
	found := locate(library.Name, folder, paths, a.exists)
	if found == "" {
		f.Text = fmt.Sprintf("%s is linked with %s, which its run paths (%s) do not find in the app", a.executable, library.Name, strings.Join(own.RunPaths, ", "))
		f.Remedy = a.again() + ", or in Xcode add " + frameworksPath + " to Runpath Search Paths"
		return f
	}
	f.Detail = append(f.Detail, "linked with "+library.Name+", which is "+found)
	for _, before := range outside(library.Name, paths, a.exists) {
		f.Detail = append(f.Detail, "first looks for it in "+before+": remove that run path from what is shipped")
	}
	for _, s := range a.program.Slices {
		if l, ok := s.links(engineLibrary); ok && s.Arch != arm64 && !l.Weak {
			f.Detail = append(f.Detail, fmt.Sprintf("the %s part will not start: %s is for arm64 only", s.Arch, engineLibrary))
		}
	}
	return f
}

// libraries looks at the libraries of mlxrank and all in the app that they are
// linked with.
func (a *App) libraries() ([]part, []Finding) {
	var parts []part
	var findings []Finding
	names := []string{engineLibrary, shimLibrary, mlxLibrary}
	for i := 0; i < len(names); i++ {
		p := a.library(names[i])
		f := p.fault
		if p.slice != nil {
			parts = append(parts, p)
			if f.Name == "" {
				f = a.checkLinks(p)
			}
			for _, l := range p.slice.Libraries {
				if name := baseName(l.Name); !isSystem(l.Name) && !l.Weak && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		findings = append(findings, f)
	}
	return parts, findings
}

// library reads one, and looks at it alone.
func (a *App) library(name string) part {
	p := part{name: name, file: frameworks + "/" + name}
	short := strings.TrimSuffix(name, ".dylib")
	fault := func(remedy, format string, args ...any) part {
		p.fault = Finding{Name: short, Text: fmt.Sprintf(format, args...), Remedy: remedy}
		return p
	}
	b, err := a.binary(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return fault(a.again(), "%s is missing", p.file)
	}
	if err != nil {
		return fault(a.again(), "%v", err)
	}
	if p.slice = b.Arch(arm64); p.slice == nil {
		return fault("take the library for Apple Silicon: "+a.again(), "%s is for %s, expected %s", p.file, b.archs(), arm64)
	}
	if why := p.slice.fits(macho.TypeDylib, a.Minimum); why != "" {
		return fault(a.again()+", or raise LSMinimumSystemVersion", "%s %s", p.file, why)
	}
	return p
}

// checkLinks looks at a library's own name and whether all that it is linked
// with is macOS's or in the app.
func (a *App) checkLinks(p part) Finding {
	f := Finding{Name: strings.TrimSuffix(p.name, ".dylib"), Text: fmt.Sprintf("%s, for %s and macOS %v", p.file, p.slice.Arch, p.slice.Minimum)}
	if want := "@rpath/" + p.name; p.slice.ID != want {
		f.Text, f.Remedy = fmt.Sprintf("%s is named %s, expected %s", p.file, p.slice.ID, want), a.again()
		return f
	}
	paths := p.slice.runPathsIn(frameworks)
	if own := a.program.Arch(arm64); own != nil {
		paths = append(paths, own.runPathsIn(path.Dir(a.executable))...)
	}
	for _, l := range p.slice.Libraries {
		if isSystem(l.Name) || l.Weak {
			continue
		}
		found := locate(l.Name, frameworks, paths, a.exists)
		if found == "" {
			f.Text, f.Remedy = fmt.Sprintf("%s is linked with %s, which is not in the app", p.file, l.Name), a.again()
			return f
		}
		f.Detail = append(f.Detail, "linked with "+l.Name+", which is "+found)
	}
	return f
}

// checkSymbols looks whether each library has what the others want of it.
func (a *App) checkSymbols(parts []part) Finding {
	f := Finding{Name: "symbols"}
	total := 0
	for _, user := range parts {
		for _, library := range parts {
			wanted, missing := lacks(user.slice, library.slice, library.name)
			if total += wanted; len(missing) > 0 {
				f.Text = fmt.Sprintf("%s lacks %d symbols that %s wants, such as %s", library.name, len(missing), user.name, missing[0])
				f.Remedy = "take both from one release: " + a.again()
				return f
			}
		}
	}
	f.Text = fmt.Sprintf("the libraries have all %d symbols that they want of one another", total)
	return f
}

// checkMLX tells the version of MLX. Whether it is the one that the shim was
// compiled for, the shim finds out when it is loaded: its own strings do not
// always have it.
func checkMLX(parts []part) Finding {
	f := Finding{Name: "mlx", Text: "its version cannot be told from " + mlxLibrary}
	find := func(name string) *Slice {
		if i := slices.IndexFunc(parts, func(p part) bool { return p.name == name }); i >= 0 {
			return parts[i].slice
		}
		return nil
	}
	library, shim := find(mlxLibrary), find(shimLibrary)
	if library == nil || library.mlxVersion() == "" {
		return f
	}
	f.Text = library.mlxVersion()
	if shim != nil && bytes.Contains(shim.data, []byte("\x00"+f.Text+"\x00")) {
		f.Text += ", which " + shimLibrary + " names too"
	}
	return f
}

// checkMetallib looks at Metal's kernels and where they are.
func (a *App) checkMetallib(parts []part) []Finding {
	f := Finding{Name: "metallib"}
	fail := func(remedy, format string, args ...any) []Finding {
		f.Text, f.Remedy = fmt.Sprintf(format, args...), remedy
		return []Finding{f}
	}
	if stray := frameworks + "/" + kernels; a.exists(stray) {
		return fail("remove it: its place is "+metallibFile, "%s lies among code, where codesign refuses data", stray)
	}
	m, err := a.metallib()
	if errors.Is(err, fs.ErrNotExist) {
		return fail(a.again(), "%s is missing", metallibFile)
	}
	if err != nil {
		return fail(a.again(), "%v", err)
	}
	if needs := m.needs(); a.Minimum.Less(needs) {
		return fail(a.again()+", or raise LSMinimumSystemVersion", "%s is Metal %v for macOS %v: it needs macOS %v, but the app says that it runs from macOS %v on",
			metallibFile, m.Language, m.Minimum, needs, a.Minimum)
	}
	for _, p := range parts {
		if p.name == mlxLibrary && p.slice.Minimum != m.Minimum {
			return fail(a.again(), "%s is for macOS %v and %s for macOS %v: they are not of one build", metallibFile, m.Minimum, p.file, p.slice.Minimum)
		}
	}
	f.Text = fmt.Sprintf("%s: %d kernels, Metal %v, for macOS %v", metallibFile, m.Functions, m.Language, m.Minimum)
	return []Finding{f, a.describeNAX(m)}
}

// describeNAX says what M5 gets. It is no failure: without them MLX uses the
// kernels of older chips.
func (a *App) describeNAX(m *Metallib) Finding {
	f := Finding{Name: "nax", Text: fmt.Sprintf("%d %s kernels, for the matrix units of M5", m.NAX, naxKernel)}
	switch {
	case m.NAX > 0:
	case a.Minimum.Less(nax):
		f.Text = fmt.Sprintf("no %s kernels: M5 computes as older chips do; they need an app for macOS %v and newer", naxKernel, nax)
	default:
		f.Text = fmt.Sprintf("no %s kernels, though the app is for macOS %v and newer: M5 computes as older chips do", naxKernel, a.Minimum)
		f.Detail = []string{"libraries built for macOS 26.2 have them: those of a release, in lib/mlxrank/" + newerFolder}
	}
	return f
}

// checkNotices looks for what the licenses of the parts ask for.
func (a *App) checkNotices() Finding {
	f := Finding{Name: "notices", Text: ownResources + "/" + noticesFile}
	for _, name := range []string{noticesFile, licenseFile} {
		if file := ownResources + "/" + name; !a.exists(file) {
			f.Text, f.Remedy = file+" is missing: the licenses of the parts ask for it", a.again()
			return f
		}
	}
	return f
}

// checkBuiltin looks for the model that needs no download. Not every app has it.
func (a *App) checkBuiltin() Finding {
	f := Finding{Name: "builtin", Text: encoderFolder}
	if !a.exists(encoderFolder) {
		f.Text = "not in the app, which must bring or fetch its model"
		return f
	}
	for _, name := range []string{"config.json", "tokenizer.json", "model.safetensors"} {
		if file := encoderFolder + "/" + name; !a.exists(file) {
			f.Text, f.Remedy = file+" is missing", a.again()+" --with-builtin"
			return f
		}
	}
	return f
}
