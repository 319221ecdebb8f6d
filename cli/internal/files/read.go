package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
)

// maxFile caps the bytes of a file, after decompression. Its passages would take hours.
const maxFile = 16 << 20

// maxMarkdown caps the bytes of a file that is parsed as Markdown, since the time for
// nested marks grows with the square of their number. A larger file is text.
const maxMarkdown = 1 << 20

// Skipped counts the files that are left out.
type Skipped struct {
	Hidden     int // hidden files and folders
	Binary     int // not UTF-8 text
	Large      int // of more than maxFile bytes
	Unreadable int // without permission, or broken
	Empty      int // without text

	Reasons []string // the first few, with the path
}

// Total returns the number of files with a reason; hidden files are left out as
// documented.
func (s *Skipped) Total() int { return s.Binary + s.Large + s.Unreadable + s.Empty }

func (s *Skipped) add(count *int, path, reason string) {
	const most = 5
	*count++
	if len(s.Reasons) < most {
		s.Reasons = append(s.Reasons, fmt.Sprintf("%s: %s", path, reason))
	}
}

// unreadable adds a file that cannot be read. The reason does not repeat the path.
func (s *Skipped) unreadable(path string, err error) {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	s.add(&s.Unreadable, path, err.Error())
}

// Options select what Read reads.
type Options struct {
	MaxFiles int                     // the number of files that the patterns may name, 0 for any
	Accept   func(text string) error // is asked for each text; an error of it ends Read
	Progress func(done, total int)   // is called after each file
}

// Read returns the texts of the files of fsys that patterns name. The ID of a document
// is the path of its file.
func Read(ctx context.Context, fsys FileSystem, patterns []string, opts Options) (*records.Documents, *Skipped, error) {
	skipped := &Skipped{}
	f := &finder{fsys: fsys, most: opts.MaxFiles, skipped: skipped}
	paths, err := f.find(ctx, patterns)
	if err != nil {
		return nil, nil, err
	}
	d := &records.Documents{Format: "files"}
	for i, path := range paths {
		text, err := read(ctx, fsys, path)
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case errors.Is(err, errBinary):
			skipped.add(&skipped.Binary, path, err.Error())
		case errors.Is(err, errLarge):
			skipped.add(&skipped.Large, path, err.Error())
		case err != nil:
			skipped.unreadable(path, err)
		case strings.TrimSpace(text) == "":
			skipped.add(&skipped.Empty, path, "no text")
		default:
			if opts.Accept != nil {
				if err := opts.Accept(text); err != nil {
					return nil, nil, err
				}
			}
			d.List = append(d.List, records.Document{Place: len(d.List) + 1, ID: path, Text: text})
		}
		if opts.Progress != nil {
			opts.Progress(i+1, len(paths))
		}
	}
	if len(d.List) == 0 {
		return nil, nil, fmt.Errorf("none of the %d files has text that can be ranked; first: %s", len(paths)+skipped.Unreadable, strings.Join(skipped.Reasons, "; "))
	}
	return d, skipped, nil
}

var (
	errBinary = errors.New("not UTF-8 text")
	errLarge  = fmt.Errorf("more than %d MiB", maxFile>>20)
)

// read returns the text of a file, which its name says how to extract.
func read(ctx context.Context, fsys FileSystem, path string) (_ string, err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular(): // it was when it was found
		return "", fmt.Errorf("not a regular file (mode %v)", info.Mode())
	}
	in := records.Decompress(io.LimitReader(input.NewReader(ctx, file), info.Size()))
	data, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return "", err
	case len(data) > maxFile:
		return "", errLarge
	}
	base := strings.ToLower(filepath.Base(path))
	switch filepath.Ext(strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".zst")) {
	case ".html", ".htm", ".xhtml":
		return htmlFile(data)
	case ".md", ".markdown", ".mdown", ".mkd":
		text, err := plainText(data)
		if err != nil || len(text) > maxMarkdown {
			return text, err
		}
		return markdownText([]byte(text)), nil
	}
	return plainText(data)
}

// plainText returns text without a byte order mark. It refuses bytes that are not
// UTF-8.
func plainText(data []byte) (string, error) {
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	err := records.Sniff(data[:min(len(data), 512)])
	if err == nil {
		err = records.CheckText(data)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", errBinary, err)
	}
	return string(data), nil
}
