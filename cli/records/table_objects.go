package records

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// NewTableReader returns a reader of a file of texts that is a table: Parquet, CSV by
// its name, or TSV by its name if fields are named. It returns nil for other files.
func NewTableReader(name string, parquet bool, file io.ReaderAt, size int64, fields Fields) (*Reader, error) {
	o := Options{Format: CSV, Score: IgnoreScore, Fields: fields}
	switch ext := extension(name); {
	case parquet:
		o.Fields = Fields{}
		rows, err := newParquetRows(name, file, size, append(fields.names(), usualNames...), nil)
		if err != nil {
			return nil, err
		}
		return &Reader{Format: Parquet, name: name, source: rows, options: o}, nil
	case ext == ".tsv" && fields.any():
		o.Format = TSV
	case ext != ".csv":
		return nil, nil
	}
	// Names of other files may be missing here: fields name columns of queries and of
	// documents.
	o.Fields = Fields{}
	r, err := newNamedReader(name, io.NewSectionReader(file, 0, size), o)
	return r, err
}

// newNamedReader returns a reader of a table.
func newNamedReader(name string, r io.Reader, o Options) (*Reader, error) {
	lines := NewLines(name, r)
	head, whole, err := lines.head()
	if err != nil {
		return nil, err
	}
	reader := &Reader{Format: o.Format, name: name, source: lines, options: o, sources: make(map[string]bool)}
	if err := reader.setNames(lines, head, whole, o, jsonl{score: o.Score}); err != nil {
		return nil, reader.fail(err)
	}
	return reader, nil
}

// WriteObjects writes the rows of a table as lines with objects, and returns their
// bytes. A row keeps its line.
func (r *Reader) WriteObjects(w io.Writer) (int64, error) {
	out, size := bufio.NewWriter(w), int64(0)
	for line := 1; ; line++ {
		row, err := r.source.read()
		if errors.Is(err, io.EOF) {
			return size, out.Flush()
		}
		record := Record{Line: r.source.line(), Text: row}
		if err == nil {
			row, err = r.objectLine(row)
		}
		if err != nil {
			return 0, r.Errorf(&record, "%w", err)
		}
		blank := bytes.Repeat([]byte("\n"), max(record.Line-line, 0))
		line += len(blank)
		for _, text := range [][]byte{blank, row, []byte("\n")} {
			n, err := out.Write(text)
			if size += int64(n); err != nil {
				return 0, err
			}
		}
	}
}

// objectLine returns a row as an object. Blank rows and the header row become blank.
func (r *Reader) objectLine(row []byte) ([]byte, error) {
	t, ok := r.parser.(*table)
	if !ok {
		return row, nil
	}
	if t.blank(row) || r.header {
		r.header = false
		return nil, nil
	}
	if err := CheckText(row); err != nil { // json.Marshal would replace bytes
		return nil, err
	}
	object, err := t.object(row)
	if err != nil {
		return nil, err
	}
	return json.Marshal(object)
}
