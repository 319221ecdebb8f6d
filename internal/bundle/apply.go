package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// Changes reports whether Apply would write a file.
func (p *Plan) Changes() bool {
	return slices.ContainsFunc(p.Files, func(f File) bool { return f.State != Unchanged })
}

// Apply writes the planned files. It first writes all of them under temporary names
// and then renames them, so that an error before the renames leaves the app
// unchanged.
func (p *Plan) Apply(ctx context.Context) (err error) {
	var staged []File
	defer func() {
		for _, f := range staged { // not renamed yet
			err = errors.Join(err, p.app.root.Remove(f.beside()))
		}
	}()
	for _, f := range p.Files {
		if f.State == Unchanged {
			continue
		}
		if err := p.app.root.MkdirAll(path.Dir(f.Target), 0o755); err != nil {
			return fmt.Errorf("%s: %w", p.app.Path, p.app.explain(path.Dir(f.Target), err))
		}
		if err := p.app.root.Remove(f.beside()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", p.app.Path, err)
		}
		created, err := p.app.stage(ctx, f)
		if created {
			staged = append(staged, f)
		}
		if err != nil {
			return fmt.Errorf("%s: writing %s: %w", p.app.Path, f.Target, err)
		}
	}
	for len(staged) > 0 {
		f := staged[0]
		if err := p.app.root.Rename(f.beside(), f.Target); err != nil {
			return fmt.Errorf("%s: %w", p.app.Path, err)
		}
		staged = staged[1:]
	}
	return nil
}

// beside returns the temporary name of a file. A later run replaces the file that a
// killed run left there.
func (f File) beside() string {
	return path.Join(path.Dir(f.Target), "."+path.Base(f.Target)+".mlxrank-partial")
}

// stage writes a file under its temporary name.
func (a *App) stage(ctx context.Context, f File) (created bool, err error) {
	out, err := a.root.OpenFile(f.beside(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
	if err != nil {
		return false, a.explain(f.Target, err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	from := io.Reader(bytes.NewReader(f.data))
	if f.data == nil {
		source, err := os.Open(f.Source)
		if err != nil {
			return true, err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
		from = source
	}
	if _, err := io.Copy(out, stoppable{ctx, from}); err != nil {
		return true, err
	}
	if err := out.Chmod(f.mode); err != nil { // beyond the umask
		return true, err
	}
	return true, out.Sync()
}

// stoppable is a reader that fails when its context ends.
type stoppable struct {
	ctx context.Context
	io.Reader
}

func (s stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.Reader.Read(p)
}

// commands returns the shell commands that sign: each file after the files that it
// is linked with, the app last. The variable IDENTITY names the certificate.
func (p *Plan) commands(libraries []string) []string {
	if !p.Changes() && p.app.isSigned() {
		return nil
	}
	const sign = `codesign --force --timestamp --options runtime --sign "$IDENTITY" `
	var lines []string
	for _, name := range libraries {
		lines = append(lines, sign+quoted(path.Join(p.app.Path, frameworks, name)))
	}
	keep := ""
	if s := p.app.program.Arch(arm64).Signature; s != nil && len(s.Entitlements) > 0 {
		keep = "--preserve-metadata=entitlements "
	}
	return append(lines, sign+keep+quoted(p.app.Path))
}

// isSigned reports whether a team has signed the app and all its parts.
func (a *App) isSigned() bool {
	s := a.program.Arch(arm64).Signature
	if s == nil || s.AdHoc {
		return false
	}
	parts, _ := a.libraries()
	return !slices.ContainsFunc([]Finding{a.checkSignatures(parts), a.checkTeam(parts), a.checkSeal(parts)}, Finding.Failed)
}

// quoted quotes a word for a shell if necessary.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@", r)
	}
	if word != "" && !strings.HasPrefix(word, "-") && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
