package rerank

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

var documentFormatChoice = command.Choice{Name: "format", Usage: "`FORMAT` of --documents", Def: "auto", Values: []string{"auto", "lines", "jsonl", "json", "tsv"}}

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

// readDocuments reads the passages of a file, or of stdin for "-".
func readDocuments(ctx context.Context, path string, stdin io.Reader, format records.Format, header records.HeaderPolicy) (_ documents, err error) {
	in, err := input.Open(ctx, path, stdin)
	if err != nil {
		return documents{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	docs, err := records.ReadDocuments(in.Name, in, format, header)
	if errors.Is(err, records.ErrNoColumns) {
		return documents{}, command.Usagef("--header: %v", err)
	}
	if err != nil {
		return documents{}, err
	}
	kind := "line"
	if docs.Format == records.JSON {
		kind = "item"
	}
	return documents{docs, kind, in.Name}, nil
}

// arguments are the documents given on the command line.
func arguments(args []string) (documents, error) {
	docs := documents{&records.Documents{}, "arg", ""}
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
