package cli

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// output is what a command writes. A file is written under a temporary name
// beside its place and takes the place at commit, so that what stood there
// stays until then. Standard output, devices and pipes are written directly.
type output struct {
	*bufio.Writer
	file *os.File // nil for standard output
	temp string   // "" when written directly
	path string
}

// createOutput starts an output to path, or to stdout for "-".
func createOutput(path string, stdout io.Writer) (*output, error) {
	if path == "-" {
		return &output{Writer: bufio.NewWriter(stdout)}, nil
	}
	// A symbolic link stays one: what it points to is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("create output: %s is a directory, a file is needed", path)
	case err == nil && !info.Mode().IsRegular():
		return openDevice(path)
	case err == nil:
		return createTemp(path, info)
	case errors.Is(err, os.ErrNotExist):
		return createTemp(path, nil)
	}
	return nil, fmt.Errorf("create output: %w", err)
}

func openDevice(path string) (*output, error) {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	return &output{Writer: bufio.NewWriter(file), file: file, path: path}, nil
}

// createTemp starts an output that will take the place of old, nil when there
// is no such file yet.
func createTemp(path string, old os.FileInfo) (*output, error) {
	// Not os.CreateTemp, whose files are private whatever the umask says.
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:8]+".tmp")
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("create output %s: %w", path, err)
	}
	o := &output{Writer: bufio.NewWriter(file), file: file, temp: temp, path: path}
	if old == nil {
		return o, nil
	}
	if err := file.Chmod(old.Mode().Perm()); err != nil {
		return nil, errors.Join(fmt.Errorf("create output %s: %w", path, err), o.discard())
	}
	return o, nil
}

// streamed reports whether what is written is seen before commit.
func (o *output) streamed() bool { return o.temp == "" }

// commit completes the output.
func (o *output) commit() error {
	if err := o.Flush(); err != nil || o.file == nil {
		return o.wrap(err)
	}
	if o.temp != "" {
		if err := o.file.Sync(); err != nil {
			return o.wrap(err)
		}
	}
	file := o.file
	o.file = nil
	if err := file.Close(); err != nil || o.temp == "" {
		return o.wrap(err)
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		return o.wrap(err)
	}
	o.temp = ""
	return nil
}

// discard drops what was not committed. It is safe after commit.
func (o *output) discard() error {
	var errs []error
	if o.file != nil {
		errs = append(errs, o.file.Close())
		o.file = nil
	}
	if o.temp != "" {
		errs = append(errs, os.Remove(o.temp))
		o.temp = ""
	}
	return o.wrap(errors.Join(errs...))
}

func (o *output) wrap(err error) error {
	if err == nil {
		return nil
	}
	name := o.path
	if name == "" {
		name = "standard output"
	}
	return fmt.Errorf("write %s: %w", name, err)
}
