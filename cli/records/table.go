package records

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A table is a format of columns that a header row names: CSV, or TSV if fields are
// named. Rows become objects.
type table struct {
	delimiter byte
	quoted    bool // cells may be quoted, as in CSV
	names     []string
	objects   jsonl
}

// newTable returns the format of a table with this header row.
func newTable(format Format, header []byte, objects jsonl) (*table, error) {
	t := &table{delimiter: '\t', quoted: format == CSV, objects: objects}
	header = trimEnd(header)
	if t.quoted {
		t.delimiter = ','
		for _, other := range []byte(";\t|") {
			if bytes.IndexByte(header, ',') < 0 && bytes.IndexByte(header, other) >= 0 {
				t.delimiter = other
				break
			}
		}
	}
	quotes := quoteState{delimiter: t.delimiter}
	if quotes.scan(header); t.quoted && quotes.cell == inQuotes {
		return nil, errors.New("line 1: the header row has a quote that does not end in the line; write the names of columns in one line")
	}
	var err error
	if t.names, err = t.cells(header); err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	for i, name := range t.names {
		if t.names[i] = strings.TrimSpace(name); slices.Contains(t.names[:i], t.names[i]) {
			return nil, fmt.Errorf("line 1: the header row names the column %q twice; rename one", t.names[i])
		}
	}
	for _, name := range objects.fields.names() {
		if !slices.Contains(t.names, name) {
			return nil, fmt.Errorf("line 1: no column %q; the header row has %s", name, t.list())
		}
	}
	return t, nil
}

// documentColumns lists the usual names of columns with documents.
var documentColumns = slices.Concat([]string{"document", "text"}, positiveFields, negativeFields, listFields)

// checkColumns rejects a header row without the columns of a pair.
func (t *table) checkColumns(f Fields, ids bool) error {
	if missing := missingColumns(t.names, f, ids); missing != "" {
		return fmt.Errorf("line 1: no column %s; the header row has %s; %s", missing, t.list(), nameFlag(missing))
	}
	return nil
}

// The columns of a pair, for messages.
const (
	queryColumn      = `"query"`
	documentColumn   = `"document" or "text"`
	queryIDColumn    = `"query_id"`
	documentIDColumn = `"document_id"`
)

// columnFlags maps the columns to the flags that name them.
var columnFlags = map[string]string{
	queryColumn: "--query-fields", documentColumn: "--fields", queryIDColumn: "--query-id-field", documentIDColumn: "--id-field",
}

func nameFlag(column string) string { return "name it with " + columnFlags[column] }

// missingColumns returns the first column of a pair that is neither given by a flag nor
// among names, or "".
func missingColumns(names []string, f Fields, ids bool) string {
	has := func(usual []string) bool {
		return slices.ContainsFunc(usual, func(name string) bool { return slices.Contains(names, name) })
	}
	switch {
	case f.Query == nil && !has([]string{"query"}):
		return queryColumn
	case f.Document == nil && !has(documentColumns):
		return documentColumn
	case ids && f.QueryID == "" && !has(queryOwnIDs):
		return queryIDColumn
	case ids && f.DocumentID == "" && !has(documentOwnIDs):
		return documentIDColumn
	}
	return ""
}

// list lists the columns for a message.
func (t *table) list() string { return Abridge([]byte(strings.Join(t.names, ", "))) }

// cells returns the cells of a row.
func (t *table) cells(row []byte) ([]string, error) {
	if !t.quoted {
		return strings.Split(string(row), "\t"), nil
	}
	r := csv.NewReader(bytes.NewReader(row))
	r.Comma, r.FieldsPerRecord = rune(t.delimiter), -1
	cells, err := r.Read()
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return nil, fmt.Errorf("malformed CSV at byte %d: %w; quote a cell that has a quote, and double the quote", parse.Column, parse.Err)
	}
	return cells, err
}

func (*table) blank(row []byte) bool { return isBlank(row) }

// object returns the object of a row, whose values are strings.
func (t *table) object(row []byte) (Object, error) {
	cells, err := t.cells(trimEnd(row))
	if err != nil {
		return nil, err
	}
	if len(cells) != len(t.names) {
		return nil, fmt.Errorf("%s, expected %d (%s)", plural(len(cells), "column"), len(t.names), t.list())
	}
	object := make(Object, len(cells))
	for i, cell := range cells {
		raw, err := json.Marshal(cell)
		if err != nil {
			return nil, err
		}
		object[t.names[i]] = raw
	}
	return object, nil
}

func (t *table) parse(r *Record) error {
	object, err := t.object(r.Text)
	if err != nil {
		return err
	}
	return t.objects.fill(r, object)
}

// checkHeader accepts the row, which newTable has read.
func (t *table) checkHeader([]byte) error {
	if t.scored() >= 0 && t.objects.score == RefuseScore {
		return errors.New(`column "score" exists already; rename or remove it, or give --overwrite-score`)
	}
	return nil
}

// scored returns the index of the column "score", or -1.
func (t *table) scored() int { return slices.Index(t.names, "score") }

// AppendHeader appends the header row with the column "score".
func (t *table) AppendHeader(dst []byte, r *Record) []byte {
	if t.scored() >= 0 {
		return append(append(dst, r.Text...), '\n')
	}
	return t.appendScore(dst, r, []byte("score"))
}

// AppendScored appends the row with its score. All other bytes stay.
func (t *table) AppendScored(dst []byte, r *Record, v Value) ([]byte, error) {
	value, err := json.Marshal(v.Score)
	if err != nil {
		return nil, err
	}
	return t.appendScore(dst, r, value), nil
}

func (t *table) appendScore(dst []byte, r *Record, value []byte) []byte {
	row := trimEnd(r.Text)
	end := r.Text[len(row):]
	if at := t.scored(); at >= 0 {
		start, stop := t.span(row, at)
		dst = append(append(append(dst, row[:start]...), value...), row[stop:]...)
	} else {
		dst = append(append(append(dst, row...), t.delimiter), value...)
	}
	return append(append(dst, end...), '\n')
}

// span returns the bytes of a cell.
func (t *table) span(row []byte, cell int) (start, stop int) {
	quotes := quoteState{delimiter: t.delimiter}
	for i, b := range row {
		if b == t.delimiter && (!t.quoted || quotes.cell != inQuotes) {
			if cell == 0 {
				return start, i
			}
			cell, start = cell-1, i+1
		}
		quotes.step(b)
	}
	return start, len(row)
}

// AppendFailed appends empty cells and the error in place of the score.
func (t *table) AppendFailed(dst []byte, r *Record) ([]byte, error) {
	text := fmt.Sprintf("error: line %d: %s", r.Line, strings.Join(strings.Fields(r.Err.Error()), " "))
	cells, at := make([]string, len(t.names), len(t.names)+1), t.scored()
	if at < 0 {
		at, cells = len(cells), append(cells, "")
	}
	cells[at] = text
	if !t.quoted {
		return append(append(dst, strings.Join(cells, "\t")...), '\n'), nil
	}
	b := bytes.NewBuffer(dst)
	w := csv.NewWriter(b)
	w.Comma = rune(t.delimiter)
	err := w.Write(cells)
	w.Flush()
	return b.Bytes(), errors.Join(err, w.Error())
}

// A quoteState follows the quotes of a row of CSV.
type quoteState struct {
	delimiter byte
	cell      cellState
}

// A cellState is a place in a cell.
type cellState int

const (
	atStart cellState = iota
	bare
	inQuotes
	afterQuote // the end of the quotes, or the first of two quotes
)

// step takes the next byte. A quote opens a cell only as its first byte.
func (q *quoteState) step(b byte) {
	switch {
	case q.cell == inQuotes && b == '"':
		q.cell = afterQuote
	case q.cell == inQuotes:
	case b == q.delimiter:
		q.cell = atStart
	case b == '"' && q.cell != bare:
		q.cell = inQuotes
	default:
		q.cell = bare
	}
}

// scan takes the bytes of a line.
func (q *quoteState) scan(line []byte) {
	for _, b := range line {
		q.step(b)
	}
}
