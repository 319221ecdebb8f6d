package rerank

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/files"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

var documentFormatChoice = command.Choice{Name: "format", Usage: "`FORMAT` of --documents", Def: "auto", Values: []string{"auto", "lines", "jsonl", "json", "tsv", "csv", "parquet"}}

// documents holds the documents to rank.
type documents struct {
	*records.Documents
	kind string // what Place counts: "line", "row" (of Parquet), "item" (of a JSON array), "file" or "arg"
	name string // of the file; "" for arguments and several files

	skipped *files.Skipped // files that are left out; nil without --files
}

// locate adds to an error of the engine which flag or document has the bad text.
func (d documents) locate(err error) error {
	var text *engine.TextError
	if !errors.As(err, &text) {
		return err
	}
	where, document := "--query", d.List[text.Index]
	switch {
	case text.Query:
	case d.kind == "file":
		where = document.ID
	case d.kind == "arg":
		where = fmt.Sprintf("argument %d", document.Place)
	default:
		where = fmt.Sprintf("%s: %s %d", d.name, d.kind, document.Place)
	}
	return fmt.Errorf("%s: %w: %w", where, text.Kind, text.Err)
}

// readDocuments reads the documents from a file, or from stdin if path is "-".
func readDocuments(ctx context.Context, path string, stdin io.Reader, format records.Format, header records.HeaderPolicy, fields records.Fields) (_ documents, err error) {
	in, err := input.Open(ctx, path, stdin)
	if err != nil {
		return documents{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	docs, err := parseDocuments(in, format, header, fields)
	if errors.Is(err, records.ErrNoColumns) || errors.Is(err, records.ErrNeedsHeader) {
		return documents{}, command.Usagef("--header: %v", err)
	}
	if err != nil {
		return documents{}, err
	}
	kind := "line"
	switch docs.Format {
	case records.JSON:
		kind = "item"
	case records.Parquet:
		kind = "row"
	}
	return documents{Documents: docs, kind: kind, name: in.Name}, nil
}

// readFiles reads the documents from the files that patterns name.
func readFiles(ctx context.Context, patterns []string, notices command.Notices) (documents, error) {
	bar := notices.Progress("reading", "files", -1)
	defer bar.End()
	docs, skipped, err := files.Read(ctx, files.System, patterns, files.Options{Progress: bar.Set})
	if err != nil {
		return documents{}, fmt.Errorf("--files: %w", err)
	}
	return documents{Documents: docs, kind: "file", skipped: skipped}, nil
}

// warn reports the files that are left out.
func (d documents) warn(log zerolog.Logger) {
	if s := d.skipped; s != nil && s.Total() > 0 {
		log.Warn().Int("not_text", s.Binary).Int("too_large", s.Large).Int("unreadable", s.Unreadable).Int("empty", s.Empty).
			Strs("first", s.Reasons).Msg("some files are left out")
	}
}

// parseDocuments reads the documents of an input.
func parseDocuments(in *input.File, format records.Format, header records.HeaderPolicy, fields records.Fields) (_ *records.Documents, err error) {
	parquet, err := in.IsParquet(format)
	if err != nil {
		return nil, err
	}
	if !parquet {
		return records.ReadDocuments(in.Name, in, format, header, fields)
	}
	if header != records.GuessHeader {
		return nil, fmt.Errorf("%s is Parquet: %w", in.Name, records.ErrNoColumns)
	}
	section, err := in.Section()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, section.Close()) }()
	return records.ReadParquetDocuments(in.Name, section, section.Size(), fields)
}

// arguments returns the documents given on the command line.
func arguments(args []string) (documents, error) {
	docs := documents{Documents: &records.Documents{}, kind: "arg"}
	for i, text := range args {
		if text == "-" {
			return documents{}, command.Usagef("to read documents from standard input, give --documents -")
		}
		if !utf8.ValidString(text) {
			return documents{}, command.Usagef("document %d: %v", i+1, records.CheckText([]byte(text)))
		}
		docs.List = append(docs.List, records.Document{Place: i + 1, Text: text})
	}
	return docs, nil
}

// maxQuery caps the bytes of a query from standard input.
const maxQuery = 1 << 20

// readQuery returns the only line of standard input, without its line end.
func readQuery(ctx context.Context, stdin io.Reader) (_ string, err error) {
	in, err := input.Open(ctx, "-", stdin)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	data, err := io.ReadAll(io.LimitReader(in, maxQuery+1))
	if err != nil {
		return "", fmt.Errorf("read the query from standard input: %w", err)
	}
	query := strings.TrimSuffix(strings.TrimSuffix(string(bytes.TrimPrefix(data, []byte("\uFEFF"))), "\n"), "\r")
	switch lines := 1 + strings.Count(query, "\n"); {
	case len(data) > maxQuery:
		return "", fmt.Errorf("--query -: standard input has more than %d bytes; give a query of one line", maxQuery)
	case !utf8.ValidString(query):
		return "", errors.New("--query -: standard input is not UTF-8 text")
	case strings.TrimSpace(query) == "":
		return "", errors.New("--query -: standard input has no query; expected one line")
	case lines > 1:
		return "", fmt.Errorf("--query -: standard input has %d lines, expected one line. For many queries see mlxrank score --help; "+
			`for one query of several lines give --query "$(cat FILE)"`, lines)
	}
	return query, nil
}

// refuseFileNames returns an error if all document arguments name files, as in
// `rerank --query Q notes/*`. The user most likely means the contents of the files,
// and rerank would rank the names.
func refuseFileNames(args []string) error {
	files := 0
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil //nolint:nilerr // it is a text
		}
		if !info.IsDir() {
			files++
		}
	}
	if files == 0 { // only folders: a document may be the word "bin"
		return nil
	}
	named := args[0]
	if len(args) > 1 {
		named += " ..."
	}
	return command.Usagef("the documents are names of files (%s): to rank the lines of a file, use --documents FILE; "+
		"to rank whole files, give --files before the first; to rank the names, write them to standard input and use --documents -", named)
}
