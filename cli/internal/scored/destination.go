package scored

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
	"github.com/mlxrank/mlxrank/cli/records"
)

// A Destination receives the lines of scored records, one chunk at a time.
type Destination interface {
	// Begin is called first. It receives the settings that the output depends on and
	// returns how far an earlier run came.
	Begin([]Setting) (State, error)
	// WriteChunk adds the lines of a chunk. at and counts are the position and the
	// counts after that chunk.
	WriteChunk(lines []byte, at Position, counts Tally) error
	// Commit completes the output.
	Commit() error
	// Close ends an output that was not committed because of err. It returns err with
	// what the user has to know, such as how to resume.
	Close(err error) error
}

// Create starts an output to path, or to stdout if path is "-". A file appears
// when it is complete; standard output, other descriptors, devices and pipes receive
// the lines as they are ready. Create stops waiting for the reader of a pipe
// when ctx ends.
func Create(ctx context.Context, path string, stdout io.Writer, resume bool) (Destination, error) {
	if fd, ok := descriptor(path); ok {
		if resume {
			return nil, command.Usagef("--resume needs an output file: nothing is kept of what is written to %s", path)
		}
		return openDescriptor(ctx, path, fd, stdout)
	}
	path, special, err := outputPath(path)
	if err != nil {
		return nil, err
	}
	if !special {
		return openPartial(path, resume)
	}
	if resume {
		return nil, command.Usagef("--resume needs an output file, and %s is not a regular file", path)
	}
	file, err := input.OpenFile(ctx, path, os.O_WRONLY)
	if err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	return newStream(ctx, file, file), nil
}

// maxLinks caps the symbolic links that lead to a descriptor.
const maxLinks = 40

// descriptor returns the descriptor of this process that path names: 1 for "-",
// N for /dev/fd/N, /proc/self/fd/N and links such as /dev/stdout. The descriptor may
// be open on a regular file that the shell writes to as well.
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

// openDescriptor starts an output to a descriptor. It duplicates the descriptor and
// does not open path: on Linux that would overwrite a regular file from its beginning.
func openDescriptor(ctx context.Context, path string, fd int, stdout io.Writer) (Destination, error) {
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

// outputPath returns path with symbolic links resolved, and reports whether something
// other than a regular file exists there.
func outputPath(path string) (_ string, special bool, _ error) {
	// The run replaces the target of a symbolic link, not the link.
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
		return "", false, fmt.Errorf("create output: %s is a directory; give a file", path)
	}
	return path, !info.Mode().IsRegular(), nil
}

// stream is an output whose reader sees each chunk as soon as it is written.
type stream struct {
	*bufio.Writer
	file *os.File // nil for standard output
}

// IsStream reports whether the readers of an output see each chunk as soon as it is written.
func IsStream(out Destination) bool {
	_, ok := out.(*stream)
	return ok
}

func newStream(ctx context.Context, w io.Writer, file *os.File) *stream {
	return &stream{Writer: bufio.NewWriter(input.NewWriter(ctx, w)), file: file}
}

func (s *stream) Begin([]Setting) (State, error) { return State{}, nil }

func (s *stream) WriteChunk(lines []byte, _ Position, _ Tally) error {
	_, err := s.Writer.Write(lines)
	if err == nil {
		err = s.Flush()
	}
	return s.wrap(err)
}

func (s *stream) Commit() error {
	err := s.Flush()
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return s.wrap(err)
}

func (s *stream) Close(err error) error {
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

// CheckName rejects a name that promises another format than the output has. Only
// names of tables and of objects promise one.
func CheckName(output string, format records.Format, run bool) error {
	promised := records.FormatOfName(output)
	if run || format == records.TREC {
		format = records.TREC
	}
	if promised == "" || promised == format || promised != records.Parquet && promised != records.CSV && format != records.Parquet && format != records.CSV {
		return nil
	}
	return command.Usagef("--output %s has the name of %s, but the output of %s is %s too; choose another name, or convert the input or the output", output, promised, format, format)
}

// CheckApart rejects an output that is one of the input files, or whose partial,
// state or run file would replace an input file.
func CheckApart(inputs []*input.File, output string) error {
	if _, ok := descriptor(output); ok {
		return nil
	}
	target, _, err := outputPath(output)
	if err != nil {
		return err
	}
	for _, in := range inputs {
		for _, suffix := range append([]string{""}, Suffixes...) {
			same, err := in.IsFile(target + suffix)
			switch {
			case errors.Is(err, syscall.ENAMETOOLONG):
				continue
			case err != nil:
				return fmt.Errorf("create output: %w", err)
			case same && suffix == "":
				return command.Usagef("--output %s is also the input %s; name another file", output, in.Name)
			case same:
				return command.Usagef("--output %s would overwrite %s, which is the input %s; name another file", output, target+suffix, in.Name)
			}
		}
	}
	return nil
}
