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

// Finding is the result of one check.
type Finding struct {
	Name   string
	Text   string   // what was found or what is wrong
	Detail []string // further lines
	Remedy string   // what to do; set if the check failed
}

// Failed reports whether the check failed.
func (f Finding) Failed() bool { return f.Remedy != "" }

// part is a library in the app.
type part struct {
	name, file string
	slice      *Slice
	fault      Finding // a failed check, if the library is unusable
}

// again returns the command that adds the parts.
func (a *App) again() string { return "run mlxrank bundle --app " + quoted(a.Path) }

// Check checks an app that contains mlxrank and is ready to ship.
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

// checkProgram checks the main executable and how it finds the library.
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
		f.Detail = append(f.Detail, "not linked with "+engineLibrary+": the app must load it at run time")
		return f
	}
	folder := path.Dir(a.executable)
	paths := own.runPathsIn(folder)
	found := locate(library.Name, folder, paths, a.exists)
	if found == "" {
		f.Text = fmt.Sprintf("%s is linked with %s; its run paths (%s) do not find it in the app", a.executable, library.Name, strings.Join(own.RunPaths, ", "))
		f.Remedy = a.again() + ", or in Xcode add " + frameworksPath + " to Runpath Search Paths"
		return f
	}
	f.Detail = append(f.Detail, "linked with "+library.Name+", found as "+found)
	for _, before := range outside(library.Name, paths, a.exists) {
		f.Detail = append(f.Detail, "searches "+before+" first: remove that run path before shipping")
	}
	for _, s := range a.program.Slices {
		if l, ok := s.links(engineLibrary); ok && s.Arch != arm64 && !l.Weak {
			f.Detail = append(f.Detail, fmt.Sprintf("the %s part will not start: %s is for arm64 only", s.Arch, engineLibrary))
		}
	}
	return f
}

// libraries checks the libraries of mlxrank and the libraries in the app that they
// are linked with.
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

// library reads a library and checks it without the others.
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

// checkLinks checks the install name of a library, and that every library that it
// is linked with belongs to macOS or is in the app.
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
			f.Text, f.Remedy = fmt.Sprintf("%s is linked with %s; that is not in the app", p.file, l.Name), a.again()
			return f
		}
		f.Detail = append(f.Detail, "linked with "+l.Name+", found as "+found)
	}
	return f
}

// checkSymbols checks that each library has the symbols that the others need.
func (a *App) checkSymbols(parts []part) Finding {
	f := Finding{Name: "symbols"}
	total := 0
	for _, user := range parts {
		for _, library := range parts {
			wanted, missing := lacks(user.slice, library.slice, library.name)
			if total += wanted; len(missing) > 0 {
				f.Text = fmt.Sprintf("%s lacks %d symbols that %s needs, such as %s", library.name, len(missing), user.name, missing[0])
				f.Remedy = "take both from one release: " + a.again()
				return f
			}
		}
	}
	f.Text = fmt.Sprintf("the libraries have all %d symbols that they need from one another", total)
	return f
}

// checkMLX reports the version of MLX. It does not compare it with the version that
// the shim was compiled for, because the strings of the shim do not always
// contain that. The shim compares them when it is loaded.
func checkMLX(parts []part) Finding {
	f := Finding{Name: "mlx", Text: "found no version in " + mlxLibrary}
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
		f.Text += ", also named in " + shimLibrary
	}
	return f
}

// checkMetallib checks Metal's kernels and their path.
func (a *App) checkMetallib(parts []part) []Finding {
	f := Finding{Name: "metallib"}
	fail := func(remedy, format string, args ...any) []Finding {
		f.Text, f.Remedy = fmt.Sprintf(format, args...), remedy
		return []Finding{f}
	}
	if stray := frameworks + "/" + kernels; a.exists(stray) {
		return fail("remove it; the kernels belong in "+metallibFile, "%s is in a folder of code, where codesign rejects data", stray)
	}
	m, err := a.metallib()
	if errors.Is(err, fs.ErrNotExist) {
		return fail(a.again(), "%s is missing", metallibFile)
	}
	if err != nil {
		return fail(a.again(), "%v", err)
	}
	if needs := m.needs(); a.Minimum.Less(needs) {
		return fail(a.again()+", or raise LSMinimumSystemVersion", "%s is Metal %v for macOS %v: it needs macOS %v, but the app supports macOS %v",
			metallibFile, m.Language, m.Minimum, needs, a.Minimum)
	}
	for _, p := range parts {
		if p.name == mlxLibrary && p.slice.Minimum != m.Minimum {
			return fail(a.again(), "%s is for macOS %v and %s for macOS %v: they are from different builds", metallibFile, m.Minimum, p.file, p.slice.Minimum)
		}
	}
	f.Text = fmt.Sprintf("%s: %d kernels, Metal %v, for macOS %v", metallibFile, m.Functions, m.Language, m.Minimum)
	return []Finding{f, a.describeNAX(m)}
}

// describeNAX reports the kernels for M5. Missing kernels are not a failure, because
// MLX then uses the kernels of older chips.
func (a *App) describeNAX(m *Metallib) Finding {
	f := Finding{Name: "nax", Text: fmt.Sprintf("%d %s kernels, for the matrix units of M5", m.NAX, naxKernel)}
	switch {
	case m.NAX > 0:
	case a.Minimum.Less(nax):
		f.Text = fmt.Sprintf("no %s kernels: M5 uses the kernels of older chips; its own need an app for macOS %v and newer", naxKernel, nax)
	default:
		f.Text = fmt.Sprintf("no %s kernels, though the app is for macOS %v and newer: M5 uses the kernels of older chips", naxKernel, a.Minimum)
		f.Detail = []string{"the libraries for macOS 26.2 have them: see lib/mlxrank/" + newerFolder + " of a release"}
	}
	return f
}

// checkNotices checks for the files that the licenses of the parts require.
func (a *App) checkNotices() Finding {
	f := Finding{Name: "notices", Text: ownResources + "/" + noticesFile}
	for _, name := range []string{noticesFile, licenseFile} {
		if file := ownResources + "/" + name; !a.exists(file) {
			f.Text, f.Remedy = file+" is missing: the licenses of the parts require it", a.again()
			return f
		}
	}
	return f
}

// checkBuiltin checks the builtin model's encoder, which is optional.
func (a *App) checkBuiltin() Finding {
	f := Finding{Name: "builtin", Text: encoderFolder}
	if !a.exists(encoderFolder) {
		f.Text = "not in the app: the app must contain or download another model"
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
