package scored

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// CheckpointEvery is the time between checkpoints. A killed run loses at most that
// much finished work and the chunk that it is scoring. A checkpoint waits for the
// disk. The variable is text so that a test can set it at link time.
var CheckpointEvery = "10s"

// partial is an output file that is not complete yet. The run writes it next to path
// and renames it to path when it is complete. A state file next to it records how
// much of it is valid. Both remain after a run that fails, so that another run can
// resume.
//
// The state file is always complete and counts only what is in the partial file,
// even after kill -9 or a power failure: the partial file is synced to the disk
// before the new state file replaces the old one. The next run truncates what
// follows in the partial file, such as half a chunk.
type partial struct {
	path       string // of the complete file
	file       *os.File
	lock       *flock.Flock // of file
	compressor *records.Compressor
	sum        hash.Hash // of the file

	state State // after the chunk that was written last
	found bool  // an earlier run left a state
	grown bool  // this run has written to the file
	dirty bool  // the file holds more than the state file counts
	kept  int   // records that the state file counts; -1 without a state file
	when  time.Time
	every time.Duration
}

// The suffixes of the files that a run writes next to its output.
const (
	PartialSuffix = ".mlxrank-partial"
	StateSuffix   = ".mlxrank-state"
	newSuffix     = StateSuffix + ".tmp" // the next state
	runSuffix     = ".mlxrank-run"       // a TREC run or Parquet that is not complete
)

// Suffixes lists them, the longest first.
var Suffixes = []string{newSuffix, PartialSuffix, StateSuffix, runSuffix}

func (p *partial) dataPath() string { return p.path + PartialSuffix }

func (p *partial) statePath() string { return p.path + StateSuffix }

// openPartial starts a file at path. It returns an error if an earlier run left a
// partial file and resume is false.
func openPartial(path string, resume bool) (_ *partial, err error) {
	if err := checkLength(path); err != nil {
		return nil, err
	}
	p := &partial{path: path, sum: sha256.New(), kept: -1, when: time.Now()}
	if p.every, err = time.ParseDuration(CheckpointEvery); err != nil {
		return nil, err
	}
	if p.compressor, err = records.NewCompressor(path); err != nil {
		return nil, err
	}
	if err := p.openLocked(); err != nil {
		return nil, err
	}
	if err := p.look(resume); err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

// checkLength rejects a name that is too long with one of the suffixes. Otherwise only
// the first checkpoint would fail, after work that could not be kept.
func checkLength(path string) error {
	if _, err := os.Lstat(path + Suffixes[0]); errors.Is(err, syscall.ENAMETOOLONG) {
		return fmt.Errorf("create output %s: the name is too long: it has %d bytes, and the files next to it add %d (%q); choose a shorter name",
			path, len(filepath.Base(path)), len(Suffixes[0]), Suffixes[0])
	}
	return nil
}

// openOwn opens a file that a run leaves next to its output, and creates it if flag
// has O_CREATE. Another user with write access to the folder could have put a link
// there; openOwn refuses it, so that the run does not write to the target.
func openOwn(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag&^os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
		file, err = os.OpenFile(path, flag|os.O_EXCL|unix.O_NOFOLLOW, 0o666)
	}
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, which mlxrank never creates; remove it", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if links := info.Sys().(*syscall.Stat_t).Nlink; !info.Mode().IsRegular() || links > 1 {
		return nil, errors.Join(fmt.Errorf("%s is not a file of mlxrank: it has mode %v and %s; remove it",
			path, info.Mode(), output.Count(int(links), "name", "names")), file.Close())
	}
	return file, nil
}

// openLocked opens the partial file for this process alone.
func (p *partial) openLocked() error {
	for {
		file, err := openOwn(p.dataPath(), os.O_RDWR|os.O_CREATE)
		if errors.Is(err, fs.ErrExist) {
			continue // another run has just created it
		}
		if err != nil {
			return fmt.Errorf("create output %s: %w", p.path, err)
		}
		lock := flock.New(p.dataPath(), flock.SetFlag(os.O_RDWR|unix.O_NOFOLLOW))
		locked, err := lock.TryLock()
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errors.ErrUnsupported): // some file systems have no locks
		case err != nil:
			return errors.Join(fmt.Errorf("lock %s: %w", p.dataPath(), err), file.Close())
		case !locked:
			return errors.Join(fmt.Errorf("create output %s: another mlxrank is writing it", p.path), file.Close())
		}
		p.file, p.lock = file, lock
		current, err := p.isCurrent()
		if err != nil {
			return errors.Join(err, p.release())
		}
		if current {
			return nil
		}
		if err := p.release(); err != nil {
			return err
		}
	}
}

// isCurrent reports whether the open file, the locked file and the file at the path
// are the same. A run that ended in between may have moved or removed the file.
func (p *partial) isCurrent() (bool, error) {
	mine, err := p.file.Stat()
	if err != nil {
		return false, err
	}
	held, err := p.lock.Stat()
	var there os.FileInfo
	if err == nil {
		there, err = os.Lstat(p.dataPath())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(mine, held) && os.SameFile(mine, there), err
}

// release closes and unlocks the partial file.
func (p *partial) release() error {
	return errors.Join(p.file.Close(), p.lock.Close())
}

// look reads the state that an earlier run left, if there is one.
func (p *partial) look(resume bool) error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	data, err := p.readState()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	earlier, err := parseState(data)
	if errors.Is(err, errNoSum) {
		return nil // nothing can be resumed, so the run starts again
	}
	left := info.Size() > 0
	if left && !resume {
		return &UnfinishedError{p.path, earlier.Settings}
	}
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w; remove it to start again", p.statePath(), err)
	}
	if !left {
		return nil // the earlier run kept nothing, or renamed the file and did not remove the state
	}
	p.found, p.state, p.kept = true, earlier, earlier.Records
	return nil
}

func (p *partial) readState() ([]byte, error) {
	file, err := openOwn(p.statePath(), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxState))
	return data, errors.Join(err, file.Close())
}

// Begin records the settings that the output depends on. If an earlier run had the
// same, Begin returns how far that run came.
func (p *partial) Begin(settings []Setting) (State, error) {
	if !p.found {
		none := p.sum.Sum(nil)
		p.state = State{Version: stateVersion, Settings: settings, Input: Position{Stretch: Stretch{Sum: none}}, Output: Stretch{Sum: none}}
		return p.state, p.clear()
	}
	if changed := Differences(p.state.Settings, settings); len(changed) > 0 {
		return State{}, fmt.Errorf("%s cannot be resumed: %s; remove %s to start again",
			p.path, strings.Join(changed, "; "), p.dataPath())
	}
	n, err := io.CopyN(p.sum, p.file, p.state.Output.Bytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return State{}, p.wrap(err)
	}
	if n < p.state.Output.Bytes || !bytes.Equal(p.sum.Sum(nil), p.state.Output.Sum) {
		return State{}, fmt.Errorf("%s cannot be resumed: %s is not what the earlier run wrote; remove it to start again", p.path, p.dataPath())
	}
	return p.state, p.wrap(p.file.Truncate(n))
}

// clear empties the file, with the mode of the file that it will replace.
func (p *partial) clear() error {
	if err := p.file.Truncate(0); err != nil {
		return p.wrap(err)
	}
	if err := atomicfile.Remove(p.statePath()); err != nil {
		return p.wrap(err)
	}
	if old, err := os.Stat(p.path); err == nil {
		return p.wrap(p.file.Chmod(old.Mode().Perm()))
	}
	return nil
}

// WriteChunk adds the lines of a chunk. at and counts are those after the chunk.
func (p *partial) WriteChunk(lines []byte, at Position, counts Tally) error {
	if len(lines) > 0 {
		if err := p.add(lines); err != nil {
			return err
		}
	}
	p.state.Output.Sum = p.sum.Sum(nil)
	p.state.Input, p.state.Tally = at, counts
	p.grown, p.dirty = true, true
	if time.Since(p.when) < p.every {
		return nil
	}
	return p.checkpoint()
}

// add compresses lines and appends them to the file.
func (p *partial) add(lines []byte) error {
	packed, err := p.compressor.Compress(lines)
	if err != nil {
		return p.wrap(err)
	}
	if _, err := p.file.Write(packed); err != nil {
		return p.wrap(errors.Join(err, p.file.Truncate(p.state.Output.Bytes)))
	}
	p.sum.Write(packed)
	p.state.Output.Bytes += int64(len(packed))
	return nil
}

// checkpoint syncs the file and then replaces the state file by one that counts it.
func (p *partial) checkpoint() error {
	if err := p.file.Sync(); err != nil {
		return p.wrap(err)
	}
	data, err := json.MarshalIndent(p.state, "", "  ")
	if err != nil {
		return err
	}
	err = atomicfile.WriteVia(p.path+newSuffix, p.statePath(), 0o666, func(f *os.File) error {
		_, err := f.Write(append(data, '\n'))
		return err
	})
	if err != nil {
		return p.wrap(err)
	}
	p.dirty, p.kept, p.when = false, p.state.Records, time.Now()
	return nil
}

// Commit renames the complete file to path.
func (p *partial) Commit() error {
	if p.state.Output.Bytes == 0 {
		// A compressed file needs a header even without lines.
		if err := p.add(nil); err != nil {
			return err
		}
	}
	if err := p.file.Sync(); err != nil {
		return p.wrap(err)
	}
	if err := os.Rename(p.dataPath(), p.path); err != nil {
		return p.wrap(err)
	}
	return p.finish(p.statePath())
}

// finish releases a file that was renamed to path, and removes the other
// files of the run.
func (p *partial) finish(leftovers ...string) error {
	errs := []error{atomicfile.SyncFolder(p.path)}
	for _, path := range leftovers {
		errs = append(errs, atomicfile.Remove(path))
	}
	errs = append(errs, p.release())
	p.file = nil
	return p.wrap(errors.Join(errs...))
}

// Close ends a run that failed with err; it does nothing after commit. If there is
// something to resume, close keeps it and returns a *KeptError.
func (p *partial) Close(err error) error {
	if p.file == nil {
		return err
	}
	switch {
	case p.found && !p.grown && !errors.Is(err, context.Canceled):
		return errors.Join(err, p.release()) // it could not resume
	case errors.Is(err, input.ErrChanged):
		p.kept = -1
	case p.dirty:
		err = errors.Join(err, p.checkpoint())
	}
	if p.kept <= 0 {
		return errors.Join(err, p.discard())
	}
	return &KeptError{errors.Join(err, p.release()), p.kept, p.dataPath()}
}

// discard releases the file and removes it and its state.
func (p *partial) discard() error {
	return errors.Join(atomicfile.Remove(p.dataPath()), atomicfile.Remove(p.statePath()), p.release())
}

func (p *partial) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write %s: %w", p.path, err)
}

// UnfinishedError reports that an earlier run left a partial file.
type UnfinishedError struct {
	path     string
	settings []Setting
}

func (e *UnfinishedError) Error() string { return e.Continue("with --resume") }

// Continue returns the error with another way to continue the run.
func (e *UnfinishedError) Continue(how string) string {
	return fmt.Sprintf("%s: an earlier run was not finished; continue it %s, or remove %s to start again", e.path, how, e.path+PartialSuffix)
}

// Setting returns the value of a setting of the earlier run, or "".
func (e *UnfinishedError) Setting(name string) string {
	for _, s := range e.settings {
		if s.Name == name {
			return s.Value
		}
	}
	return ""
}

// KeptError reports why a run failed and how to resume it.
type KeptError struct {
	err     error
	records int
	path    string
}

func (e *KeptError) Error() string { return e.err.Error() + "; " + e.Advice() }

func (e *KeptError) Unwrap() error { return e.err }

// Advice returns where the work is kept and how to resume.
func (e *KeptError) Advice() string {
	return fmt.Sprintf("finished work (%s) is kept in %s; to continue, run the same command with --resume", output.Count(e.records, "line", "lines"), e.path)
}
