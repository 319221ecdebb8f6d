package files

import (
	"context"
	"errors"
	"fmt"
	"io"
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

func (s *Skipped) unreadable(path string, err error) {
	s.add(&s.Unreadable, path, strings.TrimPrefix(err.Error(), "open input: "))
}

// Read returns the texts of the files that patterns name. progress is called after
// each file. The ID of a document is the path of its file.
func Read(ctx context.Context, patterns []string, progress func(done, total int)) (*records.Documents, *Skipped, error) {
	skipped := &Skipped{}
	paths, err := find(patterns, skipped)
	if err != nil {
		return nil, nil, err
	}
	d := &records.Documents{Format: "files"}
	for i, path := range paths {
		text, err := read(ctx, path)
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
			d.List = append(d.List, records.Document{Place: len(d.List) + 1, ID: path, Text: text})
		}
		progress(i+1, len(paths))
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
func read(ctx context.Context, path string) (_ string, err error) {
	in, err := input.Open(ctx, path, nil)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
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
