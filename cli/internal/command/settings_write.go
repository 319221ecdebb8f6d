package command

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// WriteConfigFlag returns the flag --write-config. A command that has it may name a file
// that does not exist yet with --config.
func WriteConfigFlag() cli.Flag {
	return &cli.BoolFlag{Name: "write-config", DisableDefaultText: true,
		Usage: "write the choice to the config file, which is the user's or the one of --config, and keep everything else in it"}
}

// A Setting is a key of the config file with its value. An Optional one is written only in
// place of a value that the file has.
type Setting struct {
	Name, Value string
	Optional    bool
}

// A SettingsFile is a config file to change.
type SettingsFile struct {
	Path  string
	known []string
}

// NewSettingsFile returns the config file that the command reads, to write the given keys.
// It returns an error if the file cannot be replaced or the keys cannot be edited, so that
// a long command finds out before it begins.
func NewSettingsFile(c *cli.Context, keys ...string) (*SettingsFile, error) {
	path := cmp.Or(c.String("config"), os.Getenv(ConfigEnv))
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("config file: %w; name a file with --config", err)
		}
		path = filepath.Join(dir, "mlxrank", "config.yaml")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("config file: %w; name another file with --config", err)
		}
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // so that a link stays one
	}
	f := &SettingsFile{Path: path, known: knownSettings(c.App)}
	if err := f.check(keys); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".mlxrank-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("config file %s cannot be written: %w; name another file with --config", path, err)
	}
	return f, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// check returns an error if Write cannot set keys.
func (f *SettingsFile) check(keys []string) error {
	data, _, err := f.read()
	if err != nil {
		return err
	}
	var values []Setting
	for _, key := range keys {
		values = append(values, Setting{Name: key, Value: "1"})
	}
	_, err = editSettings(data, values, f.known)
	if errors.Is(err, errLines) {
		return fmt.Errorf("config file %s: %w; write it like that, or name another file with --config", f.Path, errLines)
	}
	return err
}

// read returns the contents of the file, none if it does not exist, and its mode.
func (f *SettingsFile) read() ([]byte, fs.FileMode, error) {
	info, err := os.Stat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0o644, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("config file: %w", err)
	}
	if _, err := parseSettingsFile(f.Path, f.known); err != nil {
		return nil, 0, fmt.Errorf("config file: %w", err)
	}
	if info.Mode().Perm()&0o222 == 0 {
		return nil, 0, fmt.Errorf("config file %s is read-only; change its mode, or name another file with --config", f.Path)
	}
	// Opened for writing too: an immutable file has a mode that allows it.
	file, err := os.OpenFile(f.Path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("config file cannot be written: %w; name another file with --config", err)
	}
	data, err := io.ReadAll(file)
	return data, info.Mode().Perm(), errors.Join(err, file.Close())
}

// Write sets values in the file in one step. Other settings, comments and the order of
// lines stay.
func (f *SettingsFile) Write(values []Setting) error {
	data, mode, err := f.read()
	if err != nil {
		return err
	}
	changed, err := editSettings(data, values, f.known)
	if err != nil {
		return fmt.Errorf("config file %s: %w", f.Path, err)
	}
	if err := atomicfile.Write(f.Path, changed, mode); err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	return nil
}

// errLines reports a config file in a style that editSettings does not edit.
var errLines = errors.New("it is not written as one line for each key")

// editSettings sets values in YAML, which it changes line by line. It returns an error
// if the result does not have exactly the settings that were meant.
func editSettings(data []byte, values []Setting, known []string) ([]byte, error) {
	want, err := parseSettings(data, known)
	if err != nil {
		return nil, err
	}
	text := string(data)
	for _, v := range values {
		key := strings.ReplaceAll(regexp.QuoteMeta(v.Name), "-", "[-_]")
		line := regexp.MustCompile(`(?m)^(["']?` + key + `["']?[ \t]*:[ \t]*)[^\r\n]*?([ \t]+#[^\r\n]*)?(\r?)$`)
		_, has := want[v.Name]
		switch {
		case line.MatchString(text):
			text = line.ReplaceAllString(text, "${1}"+v.Value+"${2}${3}")
		case v.Optional && !has:
			continue
		default:
			if text != "" && !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			text += v.Name + ": " + v.Value + "\n"
		}
		want[v.Name] = v.Value
	}
	got, err := parseSettings([]byte(text), known)
	if err != nil || !maps.Equal(got, want) {
		var lines bytes.Buffer
		for _, v := range values {
			fmt.Fprintf(&lines, "\n  %s: %s", v.Name, v.Value)
		}
		return nil, fmt.Errorf("%w, and stays as it is; set these by hand:%s", errLines, lines.String())
	}
	return []byte(text), nil
}
