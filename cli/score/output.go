package score

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
)

// destination takes the lines of scored records, a window at a time.
type destination interface {
	// begin comes first. It says what the output depends on, and returns how far
	// an earlier run came.
	begin([]setting) (state, error)
	// write adds the lines of a window, and says where the input and the counts
	// are behind it.
	write(lines []byte, input position, counts tally) error
	// commit completes the output.
	commit() error
	// close ends what was not committed because of err, and returns err and what
	// there is to say about it.
	close(err error) error
}

// createOutput starts an output to path, or to stdout for "-". A file appears
// when it is complete; standard output, other descriptors, devices and pipes are
// written as it comes. Waiting for the reader of a pipe ends when ctx does.
func createOutput(ctx context.Context, path string, stdout io.Writer, resume bool) (destination, error) {
	if fd, ok := descriptor(path); ok {
		return openDescriptor(ctx, path, fd, stdout, resume)
	}
	path, special, err := outputPath(path)
	if err != nil {
		return nil, err
	}
	if !special {
		return openPartial(path, resume)
	}
	if resume {
		return nil, command.Usagef("--resume needs an output file, and %s is none", path)
	}
	file, err := input.OpenFile(ctx, path, os.O_WRONLY)
	if err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	return newStream(ctx, file, file), nil
}

// maxLinks bounds the symbolic links that lead to a descriptor.
const maxLinks = 40

// descriptor returns the descriptor of this process that path names: 1 for "-",
// N for /dev/fd/N, /proc/self/fd/N and links such as /dev/stdout. What it leads
// to may be a regular file that the shell writes to as well.
func descriptor(path string) (fd int, ok bool) {
	if path == "-" {
		return 1, true
	}
	for range maxLinks {
		dir, name := filepath.Dir(path), filepath.Base(path)
		if n, err := strconv.Atoi(name); err == nil && n >= 0 && holdsDescriptors(dir) {
			return n, true
		}
		target, err := os.Readlink(path)
		if err != nil {
			return 0, false
		}
		if !filepath.IsAbs(target) {
			if dir, err = filepath.EvalSymlinks(dir); err != nil {
				return 0, false
			}
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return 0, false
}

// holdsDescriptors reports whether a folder lists the descriptors of this
// process: /dev/fd, or on Linux /proc/PID/fd or /proc/PID/task/TID/fd.
func holdsDescriptors(dir string) bool {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return false
	}
	own := fmt.Sprintf("/proc/%d/", os.Getpid())
	return dir == "/dev/fd" || strings.HasPrefix(dir, own) && filepath.Base(dir) == "fd"
}

// openDescriptor starts an output to a descriptor. It is not opened by its name:
// on Linux that would write over a regular file from its beginning.
func openDescriptor(ctx context.Context, path string, fd int, stdout io.Writer, resume bool) (destination, error) {
	if resume {
		return nil, command.Usagef("--resume needs an output file: nothing is kept of what is written to %s", path)
	}
	if fd == 1 {
		return newStream(ctx, stdout, nil), nil
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil, fmt.Errorf("create output: %s is open for reading only", path)
	}
	if err == nil {
		fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("create output: %s: %w", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	return newStream(ctx, file, file), nil
}

// outputPath returns where an output to path belongs, and whether something that is
// no regular file is there.
func outputPath(path string) (_ string, special bool, _ error) {
	// A symbolic link stays one: what it points to is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return path, false, nil
	case err != nil:
		return "", false, fmt.Errorf("create output: %w", err)
	case info.IsDir():
		return "", false, fmt.Errorf("create output: %s is a directory, a file is needed", path)
	}
	return path, !info.Mode().IsRegular(), nil
}

// stream is an output that is seen as it is written.
type stream struct {
	*bufio.Writer
	file *os.File // nil for standard output
}

func newStream(ctx context.Context, w io.Writer, file *os.File) *stream {
	return &stream{Writer: bufio.NewWriter(input.NewWriter(ctx, w)), file: file}
}

func (s *stream) begin([]setting) (state, error) { return state{}, nil }

func (s *stream) write(lines []byte, _ position, _ tally) error {
	_, err := s.Write(lines)
	if err == nil {
		err = s.Flush()
	}
	return s.wrap(err)
}

func (s *stream) commit() error {
	err := s.Flush()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return s.wrap(err)
}

func (s *stream) close(err error) error {
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	return err
}

func (s *stream) wrap(err error) error {
	if err == nil {
		return nil
	}
	name := "standard output"
	if s.file != nil {
		name = s.file.Name()
	}
	return fmt.Errorf("write %s: %w", name, err)
}

// checkApart refuses an output that is one of the files that are read, or would
// replace one by what it leaves beside itself.
func checkApart(p *input.Pairs, output string) error {
	if _, ok := descriptor(output); ok {
		return nil
	}
	target, _, err := outputPath(output)
	if err != nil {
		return err
	}
	for _, in := range p.Files() {
		for _, suffix := range append([]string{""}, suffixes...) {
			same, err := in.IsFile(target + suffix)
			switch {
			case errors.Is(err, syscall.ENAMETOOLONG):
				continue
			case err != nil:
				return fmt.Errorf("create output: %w", err)
			case same && suffix == "":
				return command.Usagef("--output %s is the file that is read as %s: name another", output, in.Name)
			case same:
				return command.Usagef("--output %s would overwrite %s, which is read as %s: name another", output, target+suffix, in.Name)
			}
		}
	}
	return nil
}
