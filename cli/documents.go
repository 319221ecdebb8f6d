package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode"

	"github.com/mlxrank/mlxrank/cli/records"
)

// documents are the passages to rank and where each stands.
type documents struct {
	texts  []string
	places []int  // from 1
	kind   string // of the places: "line", "item" (of a JSON array) or "arg"
}

func (d *documents) add(text string, place int) {
	d.texts = append(d.texts, text)
	d.places = append(d.places, place)
}

// readDocuments reads the passages of a file, or of stdin for "-": the items of
// a JSON array if it is one, else its lines.
func readDocuments(ctx context.Context, path string, stdin io.Reader) (_ documents, err error) {
	in, err := openInput(ctx, path, stdin)
	if err != nil {
		return documents{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	r := bufio.NewReaderSize(in, 64<<10)
	read := readLines
	array, err := startsArray(r)
	if err != nil {
		return documents{}, fmt.Errorf("read %s: %w", in.name, err)
	}
	if array {
		read = readArray
	}
	docs, err := read(in.name, r)
	if err == nil && len(docs.texts) == 0 {
		err = fmt.Errorf("%s: no documents; write one passage per line", in.name)
	}
	return docs, err
}

// startsArray reports whether the input begins as a JSON array of texts or
// objects does. A line of text may begin with a bracket too, as in "[1] ...".
func startsArray(r *bufio.Reader) (bool, error) {
	start, err := r.Peek(4096)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return false, err
	}
	start = bytes.TrimLeftFunc(bytes.TrimPrefix(start, records.UTF8BOM), unicode.IsSpace)
	rest, ok := bytes.CutPrefix(start, []byte("["))
	rest = bytes.TrimLeftFunc(rest, unicode.IsSpace)
	return ok && len(rest) > 0 && bytes.IndexByte([]byte(`"{]`), rest[0]) >= 0, nil
}

func readLines(name string, r *bufio.Reader) (documents, error) {
	docs := documents{kind: "line"}
	for l := records.NewLines(name, r); ; {
		line, err := l.Next()
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return documents{}, err
		}
		text, err := passage(line)
		if err != nil {
			return documents{}, l.Errorf("%w", err)
		}
		docs.add(text, l.Number())
	}
}

// readArray reads an array of strings, or of objects as in lines.
func readArray(name string, r *bufio.Reader) (documents, error) {
	if start, err := r.Peek(len(records.UTF8BOM)); err == nil && bytes.Equal(start, records.UTF8BOM) {
		if _, err := r.Discard(len(records.UTF8BOM)); err != nil {
			return documents{}, err
		}
	}
	docs := documents{kind: "item"}
	decoder := json.NewDecoder(r)
	fail := func(err error) (documents, error) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return documents{}, fmt.Errorf("%s: item %d of the JSON array: %w", name, len(docs.texts)+1, err)
	}
	if _, err := decoder.Token(); err != nil {
		return fail(err)
	}
	for decoder.More() {
		var item json.RawMessage
		if err := decoder.Decode(&item); err != nil {
			return fail(err)
		}
		text, err := itemText(item)
		if err != nil {
			return fail(err)
		}
		docs.add(text, len(docs.texts)+1)
	}
	if _, err := decoder.Token(); err != nil {
		return fail(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return documents{}, fmt.Errorf("%s: something follows the JSON array at byte %d", name, decoder.InputOffset())
	}
	return docs, nil
}

func itemText(item json.RawMessage) (string, error) {
	switch item[0] {
	case '"':
		var text string
		err := json.Unmarshal(item, &text)
		return text, err
	case '{':
		return objectPassage(item)
	}
	return "", fmt.Errorf("neither a string nor an object: %s", records.Abridge(item))
}

// passage is the text of a line: the line itself, or, when it begins with a
// brace, that of the JSON object it must be.
func passage(line []byte) (string, error) {
	if line[0] != '{' {
		return string(line), nil
	}
	text, err := objectPassage(line)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		err = fmt.Errorf(`%w; a passage that begins with { is written as {"text": "{..."}`, err)
	}
	return text, err
}

// objectPassage is the field "document", or else "text", of a JSON object.
func objectPassage(data []byte) (string, error) {
	object, err := records.ParseObject(data)
	if err != nil {
		return "", err
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
func arguments(args []string) (documents, error) {
	docs := documents{kind: "arg"}
	for i, text := range args {
		if text == "-" {
			return documents{}, usagef("to read documents from standard input, give --documents -")
		}
		docs.add(text, i+1)
	}
	return docs, nil
}
