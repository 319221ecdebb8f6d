// Package atomicfile replaces files in one step: a reader sees the old file or
// the new one, whenever the process or the machine stops.
package atomicfile

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Write replaces the file at path by one that holds data. The umask applies to
// perm. If path is a symbolic link, the file replaces the link.
func Write(path string, data []byte, perm fs.FileMode) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.FormatUint(rand.Uint64(), 36)+".tmp")
	return WriteVia(temp, path, perm, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// WriteVia does what Write does, but the caller names the temporary file and
// writes its contents. Both paths are on one file system. Whatever is at temp is
// removed first: a killed process may have left it, and a link there may lead
// to the file of another user. If write fails, temp is removed and path stays.
func WriteVia(temp, path string, perm fs.FileMode, write func(*os.File) error) error {
	if err := Remove(temp); err != nil {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, Remove(temp))
	}
	return SyncFolder(path)
}

// SyncFolder writes the folder of path to the disk, so that a renamed file keeps
// its new name when the machine stops. It does nothing on file systems that
// cannot sync a folder.
func SyncFolder(path string) error {
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = folder.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, folder.Close())
}

// Remove removes the file at path if there is one.
func Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
