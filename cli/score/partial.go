package score

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

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// checkpointEvery is how much finished work a run that is killed can lose, beside
// the window it is at. A checkpoint waits for the disk. It is text so that a
// test can link a program with another.
var checkpointEvery = "10s"

// partial is a file on its way: it is written beside its place and takes the
// place when it is complete. A state file beside it says how much of it is good.
// Both outlive a run that fails, so that another can go on.
//
// However the run ends, by kill -9 or with the machine, the state file is whole
// and what it counts is in the partial file: that is on the disk before the
// state that counts it takes the place of the state before. What stands behind,
// half a window perhaps, is cut off by the next run.
type partial struct {
	path       string // of the file to be
	file       *os.File
	lock       *flock.Flock // of file
	compressor *records.Compressor
	sum        hash.Hash // of the file

	state state // behind the window that was written last
	found bool  // an earlier run left a state
	grown bool  // this run has written to the file
	dirty bool  // the file holds more than the state file says
	kept  int   // records that the state file counts, -1 without one
	when  time.Time
	every time.Duration
}

// The names of what a run writes beside its output.
const (
	partialSuffix = ".mlxrank-partial"
	stateSuffix   = ".mlxrank-state"
	newSuffix     = stateSuffix + ".tmp" // the next state
	runSuffix     = ".mlxrank-run"       // a TREC run in the making
)

// suffixes lists them, the longest first.
var suffixes = []string{newSuffix, partialSuffix, stateSuffix, runSuffix}

func (p *partial) dataPath() string { return p.path + partialSuffix }

func (p *partial) statePath() string { return p.path + stateSuffix }

// openPartial starts a file at path. If an earlier run left one, it is an error
// unless that is to be resumed.
func openPartial(path string, resume bool) (_ *partial, err error) {
	if err := checkName(path); err != nil {
		return nil, err
	}
	p := &partial{path: path, sum: sha256.New(), kept: -1, when: time.Now()}
	if p.every, err = time.ParseDuration(checkpointEvery); err != nil {
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

// checkName refuses a name that is too long with one of the suffixes: the first
// checkpoint would find that out, behind work that could not be kept.
func checkName(path string) error {
	if _, err := os.Lstat(path + suffixes[0]); errors.Is(err, syscall.ENAMETOOLONG) {
		return fmt.Errorf("create output %s: the name is too long: it has %d bytes, and the files beside it add %d (%q); choose a shorter one",
			path, len(filepath.Base(path)), len(suffixes[0]), suffixes[0])
	}
	return nil
}

// openOwn opens a file that a run leaves beside its output, and creates it with
// the flag O_CREATE. Whoever may write to the folder could have put something
// else there: a link to a file of somebody's, which is not to be written to.
func openOwn(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag&^os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0 {
		file, err = os.OpenFile(path, flag|os.O_EXCL|unix.O_NOFOLLOW, 0o666)
	}
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s is a symbolic link, and mlxrank makes none there; remove it", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if links := info.Sys().(*syscall.Stat_t).Nlink; !info.Mode().IsRegular() || links > 1 {
		return nil, errors.Join(fmt.Errorf("%s is no file of mlxrank's: it is %v with %s; remove it",
			path, info.Mode(), output.Count(int(links), "name", "names")), file.Close())
	}
	return file, nil
}

// openLocked opens the partial file for this process alone.
func (p *partial) openLocked() error {
	for {
		file, err := openOwn(p.dataPath(), os.O_RDWR|os.O_CREATE)
		if errors.Is(err, fs.ErrExist) {
			continue // another run made it meanwhile
		}
		if err != nil {
			return fmt.Errorf("create output %s: %w", p.path, err)
		}
		lock := flock.New(p.dataPath(), flock.SetFlag(os.O_RDWR|unix.O_NOFOLLOW))
		locked, err := lock.TryLock()
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errors.ErrUnsupported): // not every file system has locks
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

// isCurrent reports whether the open file, the locked file and the file at the
// path are one. A run that ended meanwhile may have moved or removed the file.
func (p *partial) isCurrent() (bool, error) {
	mine, err := p.file.Stat()
	if err != nil {
		return false, err
	}
	held, err := p.lock.Stat()
	if err != nil {
		return false, ignoreMissing(err)
	}
	there, err := os.Lstat(p.dataPath())
	if err != nil {
		return false, ignoreMissing(err)
	}
	return os.SameFile(mine, held) && os.SameFile(mine, there), nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// release closes and unlocks the partial file.
func (p *partial) release() error {
	return errors.Join(p.file.Close(), p.lock.Close())
}

// look finds out what an earlier run left.
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
	left := info.Size() > 0
	if left && !resume {
		return fmt.Errorf("%s: an earlier run was not finished: go on with it by --resume, or remove %s to start again", p.path, p.dataPath())
	}
	earlier, err := parseState(data)
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w; remove it to start again", p.statePath(), err)
	}
	if !left {
		return nil // of a run that kept nothing, or had moved the file to its place
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

// begin records what the output depends on and returns how far an earlier run came
// with the same.
func (p *partial) begin(settings []setting) (state, error) {
	if !p.found {
		p.state = state{Version: stateVersion, Settings: settings}
		return p.state, p.clear()
	}
	if changed := differences(p.state.Settings, settings); len(changed) > 0 {
		return state{}, fmt.Errorf("%s cannot be resumed: %s; remove %s to start again",
			p.path, strings.Join(changed, "; "), p.dataPath())
	}
	n, err := io.CopyN(p.sum, p.file, p.state.Output.Bytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return state{}, p.wrap(err)
	}
	if n < p.state.Output.Bytes || !bytes.Equal(p.sum.Sum(nil), p.state.Output.Sum) {
		return state{}, fmt.Errorf("%s cannot be resumed: %s is not what was written; remove it to start again", p.path, p.dataPath())
	}
	return p.state, p.wrap(p.file.Truncate(n))
}

// clear makes the file new.
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

// write adds the lines of a window, behind which the input and the counts are.
func (p *partial) write(lines []byte, input position, counts tally) error {
	if len(lines) > 0 {
		if err := p.add(lines); err != nil {
			return err
		}
	}
	p.state.Output.Sum = p.sum.Sum(nil)
	p.state.Input, p.state.tally = input, counts
	p.grown, p.dirty = true, true
	if time.Since(p.when) < p.every {
		return nil
	}
	return p.checkpoint()
}

// add writes a piece of the file.
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

// checkpoint makes what was written so far outlive the run.
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

// commit puts the file in its place.
func (p *partial) commit() error {
	if p.state.Output.Bytes == 0 {
		// Nothing is no compressed file.
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

// finish ends the run of a file that is in its place, and removes what it has
// left.
func (p *partial) finish(leftovers ...string) error {
	errs := []error{atomicfile.SyncFolder(p.path)}
	for _, path := range leftovers {
		errs = append(errs, atomicfile.Remove(path))
	}
	errs = append(errs, p.release())
	p.file = nil
	return p.wrap(errors.Join(errs...))
}

// close ends a run that failed with err, unless the file is in its place. What
// was scored is kept, if it is enough for a checkpoint, and the error mentions it.
func (p *partial) close(err error) error {
	if p.file == nil {
		return err
	}
	switch {
	case p.found && !p.grown && !errors.Is(err, context.Canceled):
		return errors.Join(err, p.release()) // it could not go on
	case errors.Is(err, errChanged):
		p.kept = -1
	case p.dirty:
		err = errors.Join(err, p.checkpoint())
	}
	if p.kept < 0 {
		return errors.Join(err, atomicfile.Remove(p.dataPath()), atomicfile.Remove(p.statePath()), p.release())
	}
	return &KeptError{errors.Join(err, p.release()), p.kept, p.dataPath()}
}

func (p *partial) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write %s: %w", p.path, err)
}

// KeptError is the error of a run that another can go on with.
type KeptError struct {
	err     error
	records int
	path    string
}

func (e *KeptError) Error() string { return e.err.Error() + "; " + e.Advice() }

func (e *KeptError) Unwrap() error { return e.err }

func (e *KeptError) Advice() string {
	return fmt.Sprintf("what was done, %s, is kept in %s: give the same command and --resume to go on", output.Count(e.records, "line", "lines"), e.path)
}
