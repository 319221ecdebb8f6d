package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/mlxrank/mlxrank/cli/records"
)

// document is a passage to rank and where it stands.
type document struct {
	text string
	line int // in the file, from 1; 0 for an argument
}

// readDocuments reads the passages of a file, or of stdin for "-".
func readDocuments(ctx context.Context, path string, stdin io.Reader) (_ []document, err error) {
	in, err := openInput(ctx, path, stdin)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	var docs []document
	for l := records.NewLines(in.name, in); ; {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		text, err := passage(line)
		if err != nil {
			return nil, l.Errorf("%w", err)
		}
		docs = append(docs, document{text: text, line: l.Number()})
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("%s: no documents; write one passage per line", in.name)
	}
	return docs, nil
}

// passage is the text of a line: the line itself, or, when it begins with a
// brace, the field "document" or else "text" of the JSON object it must be.
func passage(line []byte) (string, error) {
	if line[0] != '{' {
		return string(line), nil
	}
	object, err := records.ParseObject(line)
	if err != nil {
		return "", fmt.Errorf(`%w; a passage that begins with { is written as {"text": "{..."}`, err)
	}
	if _, ok := object["document"]; ok {
		return object.Text("document")
	}
	if _, ok := object["text"]; ok {
		return object.Text("text")
	}
	return "", errors.New(`the object has neither a field "document" nor a field "text"`)
}

// arguments are the documents given on the command line.
func arguments(args []string) ([]document, error) {
	docs := make([]document, len(args))
	for i, text := range args {
		if text == "-" {
			return nil, usagef("to read documents from standard input, give --documents -")
		}
		docs[i] = document{text: text}
	}
	return docs, nil
}
