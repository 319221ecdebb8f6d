package model

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

// The name of a temporary directory is .NAME, tempInfix, a number to the base tempBase and
// tempSuffix.
const (
	tempInfix  = ".mlxrank-quantize-"
	tempSuffix = ".tmp"
	tempBase   = 36
)

// makeTemp makes the temporary directory and locks it. A file system without locks leaves
// it unlocked.
func (q *quantizing) makeTemp() error {
	q.temp = filepath.Join(filepath.Dir(q.dir), "."+filepath.Base(q.dir)+tempInfix+strconv.FormatUint(rand.Uint64(), tempBase)+tempSuffix)
	if err := os.Mkdir(q.temp, 0o777); err != nil {
		return err
	}
	q.lock = flock.New(q.temp, flock.SetFlag(os.O_RDONLY))
	if locked, err := q.lock.TryLock(); err == nil && !locked {
		return fmt.Errorf("%s: another run of model quantize took it for abandoned; run this one again", q.temp)
	}
	return nil
}

// removeAbandoned removes the temporary directories for the same OUTDIR of runs that were
// killed. A directory that cannot be locked has a run.
func (q *quantizing) removeAbandoned() error {
	folder := filepath.Dir(q.dir)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the folder of OUTDIR is missing: %w", err)
	}
	if err != nil {
		return nil //nolint:nilerr // a folder may be writable and not readable
	}
	for _, entry := range entries {
		if !entry.IsDir() || !q.isTemp(entry.Name()) {
			continue
		}
		temp := filepath.Join(folder, entry.Name())
		lock := flock.New(temp, flock.SetFlag(os.O_RDONLY))
		locked, err := lock.TryLock()
		if err != nil || !locked {
			continue
		}
		if err := errors.Join(os.RemoveAll(temp), lock.Close()); err != nil {
			return err
		}
		q.config.Logger.Info().Str("directory", temp).Msg("removed what a killed run of model quantize left")
	}
	return nil
}

// isTemp reports whether a temporary directory for OUTDIR can have the name.
func (q *quantizing) isTemp(name string) bool {
	number, found := strings.CutPrefix(name, "."+filepath.Base(q.dir)+tempInfix)
	if !found {
		return false
	}
	number, found = strings.CutSuffix(number, tempSuffix)
	_, err := strconv.ParseUint(number, tempBase, 64)
	return found && err == nil
}
