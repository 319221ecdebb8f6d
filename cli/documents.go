package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

var documentFormatChoice = choice{name: "format", usage: "read --documents as `FORMAT`", def: "auto", values: []string{"auto", "lines", "jsonl", "json", "tsv"}}

// documents are the passages to rank.
type documents struct {
	*records.Documents
	kind string // of the places: "line", "item" (of a JSON array) or "arg"
	name string // of the file, "" for arguments
}

// locate names the flag, or the place of the document, whose text an engine's
// error is about.
func (d documents) locate(err error) error {
	var text *engine.TextError
	if !errors.As(err, &text) {
		return err
	}
	where := "--query"
	if place := d.List[text.Index].Place; !text.Query && d.kind == "arg" {
		where = fmt.Sprintf("argument %d", place)
	} else if !text.Query {
		where = fmt.Sprintf("%s: %s %d", d.name, d.kind, place)
	}
	return fmt.Errorf("%s: %w: %w", where, text.Kind, text.Err)
}

// texts returns the texts of the documents, in their order.
func (d documents) texts() []string {
	texts := make([]string, len(d.List))
	for i, document := range d.List {
		texts[i] = document.Text
	}
	return texts
}

// hasIDs reports whether a passage has an id.
func (d documents) hasIDs() bool {
	for _, document := range d.List {
		if document.ID != "" {
			return true
		}
	}
	return false
}

// empty counts the passages with nothing to score.
func (d documents) empty() int {
	n := 0
	for _, document := range d.List {
		if engine.IsEmpty(document.Text) {
			n++
		}
	}
	return n
}

// headerPolicy is what --header says.
func headerPolicy(c *cli.Context) records.HeaderPolicy {
	switch {
	case !c.IsSet("header"):
		return records.GuessHeader
	case c.Bool("header"):
		return records.SkipHeader
	}
	return records.NoHeader
}

func headerFlag() cli.Flag {
	return &cli.BoolFlag{Name: "header", DisableDefaultText: true,
		Usage: "skip the first row of tab-separated columns, which names them; --header=false if it does not"}
}

// headerWarning is what to say of a first row that looks like a header.
const headerWarning = "the first row looks like the names of columns and is scored: give --header to skip it, or --header=false"

// readDocuments reads the passages of a file, or of stdin for "-".
func readDocuments(ctx context.Context, path string, stdin io.Reader, format records.Format, header records.HeaderPolicy) (_ documents, err error) {
	in, err := openInput(ctx, path, stdin)
	if err != nil {
		return documents{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	docs, err := records.ReadDocuments(in.name, in, format, header)
	if errors.Is(err, records.ErrNoColumns) {
		return documents{}, usagef("--header: %v", err)
	}
	if err != nil {
		return documents{}, err
	}
	kind := "line"
	if docs.Format == records.JSON {
		kind = "item"
	}
	return documents{docs, kind, in.name}, nil
}

// arguments are the documents given on the command line.
func arguments(args []string) (documents, error) {
	docs := documents{&records.Documents{}, "arg", ""}
	for i, text := range args {
		if text == "-" {
			return documents{}, usagef("to read documents from standard input, give --documents -")
		}
		if !utf8.ValidString(text) {
			return documents{}, usagef("document %d: %v", i+1, records.CheckText([]byte(text)))
		}
		docs.List = append(docs.List, records.Document{Place: i + 1, Text: text})
	}
	return docs, nil
}
