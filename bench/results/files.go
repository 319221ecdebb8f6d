package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// Files names the files of an experiment in one folder: NAME_results.md,
// NAME_results.json, and the folder NAME_results with plots.
type Files struct{ Dir, Name string }

func (f Files) base() string { return filepath.Join(f.Dir, f.Name+"_results") }

// JSON returns the path of the results.
func (f Files) JSON() string { return f.base() + ".json" }

// Report returns the path of the report.
func (f Files) Report() string { return f.base() + ".md" }

// Plots returns the path of the folder of plots.
func (f Files) Plots() string { return f.base() }

// Prepare makes the folder and checks that it is writable.
func (f Files) Prepare() error {
	if err := os.MkdirAll(f.Dir, 0o777); err != nil {
		return fmt.Errorf("results folder: %w", err)
	}
	probe, err := os.CreateTemp(f.Dir, ".probe-*")
	if err != nil {
		return fmt.Errorf("results folder %s is not writable: %w", f.Dir, errors.Unwrap(err))
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// Keep moves the results of an earlier run into a new folder, named by experiment
// and time, and returns its path, "" without earlier results. The report's links to
// its plots stay valid.
func (f Files) Keep() (string, error) {
	var present []string
	var at time.Time
	for _, path := range []string{f.Report(), f.JSON(), f.Plots()} {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		present = append(present, path)
		if at.IsZero() || !info.IsDir() {
			at = info.ModTime()
		}
	}
	if len(present) == 0 {
		return "", nil
	}
	if r, err := Read(f.JSON()); err == nil {
		at = r.Started
	}
	folder, err := f.newFolder(at)
	if err != nil {
		return "", fmt.Errorf("move earlier results: %w", err)
	}
	for _, path := range present {
		if err := os.Rename(path, filepath.Join(folder, filepath.Base(path))); err != nil {
			return "", fmt.Errorf("move earlier results: %w", err)
		}
	}
	return folder, nil
}

// newFolder makes a folder with an unused name.
func (f Files) newFolder(at time.Time) (string, error) {
	path := filepath.Join(f.Dir, f.Name+"_"+at.Local().Format("2006-01-02_15-04-05"))
	for n := 1; ; n++ {
		next := path
		if n > 1 {
			next = fmt.Sprintf("%s_%d", path, n)
		}
		if err := os.Mkdir(next, 0o777); !errors.Is(err, fs.ErrExist) {
			return next, err
		}
	}
}

// Write puts results into a file, in the place of what was there only when they
// are complete.
func Write(path string, r *Result) error {
	data, err := encode(r)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return WriteFile(path, data)
}

// encode returns JSON with a line for each request and sample.
func encode(r *Result) ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	text := string(data)
	for _, item := range []string{`{"start_ms":`, `{"from_ms":`, `{"settings":`, `{"started":`} {
		text = strings.ReplaceAll(text, item, "\n"+item)
	}
	return []byte(text + "\n"), nil
}

// WriteFile replaces the file at path in one step.
func WriteFile(path string, data []byte) error {
	if err := atomicfile.Write(path, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// giveResults advises what to do about a file without results.
const giveResults = "give NAME_results.json, which mlxrank bench writes beside its report"

// Read reads results and rejects other schema versions.
func Read(path string) (*Result, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, syscall.EISDIR) {
		return nil, fmt.Errorf("results %s: this is a folder: %s", path, giveResults)
	}
	if err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	var version struct {
		Schema *int `json:"schema_version"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("results %s: not a results file of mlxrank bench: %w: %s", path, err, giveResults)
	}
	if version.Schema == nil {
		return nil, fmt.Errorf("results %s: not a results file of mlxrank bench: no schema_version: %s", path, giveResults)
	}
	if *version.Schema != Schema {
		return nil, fmt.Errorf("results %s: found schema version %d, expected %d: measure again with this version of mlxrank", path, *version.Schema, Schema)
	}
	var r Result
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("results %s: %w", path, err)
	}
	return &r, nil
}
