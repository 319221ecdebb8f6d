package records

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// IsParquet reports whether a file that begins with magic, its first four bytes or
// more, is Parquet.
func IsParquet(magic []byte) bool { return bytes.HasPrefix(magic, []byte("PAR1")) }

// parquetRows reads the rows of a Parquet file as JSON objects. Line numbers and
// offsets of positions are numbers of rows.
type parquetRows struct {
	name    string
	file    *parquet.File
	bytes   io.ReaderAt
	columns []*parquetColumn
	names   []string           // of the columns that can be read
	groups  []parquet.RowGroup // not read yet
	left    int64              // rows of the open group
	row     int                // the last row, from 1
	sum     []byte             // SHA-256 of the file, when it is known
	end     int64              // rows to read
}

// openParquet opens a file.
func openParquet(name string, r io.ReaderAt, size int64) (file *parquet.File, err error) {
	defer recoverDamage(name, &err)
	file, err = parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		err = fmt.Errorf("%s: not a readable Parquet file: %w; it may be truncated", name, err)
	}
	return file, err
}

// recoverDamage makes an error of a panic, with which the library meets some damaged
// files.
func recoverDamage(name string, err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%s: the Parquet file is damaged: %v", name, v)
	}
}

// newParquetRows reads the columns that wanted names and the file has, or all columns
// if wanted is nil. Columns of other types than texts, numbers and lists of these are
// left out. required must be there.
func newParquetRows(name string, r io.ReaderAt, size int64, wanted, required []string) (_ *parquetRows, err error) {
	file, err := openParquet(name, r, size)
	if err != nil {
		return nil, err
	}
	defer recoverDamage(name, &err)
	p := &parquetRows{name: name, file: file, bytes: io.NewSectionReader(r, 0, size), groups: file.RowGroups(), end: math.MaxInt64}
	var all []string
	for i, path := range file.Schema().Columns() {
		leaf, ok := file.Schema().Lookup(path...)
		if !ok {
			continue
		}
		c := newParquetColumn(i, path, leaf)
		if c == nil {
			continue
		}
		all = append(all, c.name)
		if wanted == nil || slices.Contains(wanted, c.name) || slices.Contains(required, c.name) {
			p.columns = append(p.columns, c)
		}
	}
	for _, name := range required {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%s: no column %q of text or numbers; the file has %s", p.name, name, strings.Join(all, ", "))
		}
	}
	p.names = all
	return p, nil
}

func (p *parquetRows) line() int { return p.row }

func (p *parquetRows) read() (object []byte, err error) {
	defer recoverDamage(p.name, &err)
	if int64(p.row) >= p.end {
		return nil, io.EOF
	}
	for p.left == 0 {
		if len(p.groups) == 0 {
			return nil, io.EOF
		}
		group := p.groups[0]
		p.groups = p.groups[1:]
		if p.left = group.NumRows(); p.left == 0 {
			continue // it may have no pages
		}
		for _, c := range p.columns {
			if err := c.open(group.ColumnChunks()[c.index]); err != nil {
				return nil, p.wrap(err)
			}
		}
	}
	object = append(object, '{')
	for i, c := range p.columns {
		if i > 0 {
			object = append(object, ',')
		}
		object = append(append(object, c.key...), ':')
		if object, err = c.appendRow(object); err != nil {
			return nil, p.wrap(fmt.Errorf("column %q: %w", c.name, err))
		}
		if len(object) > maxLine {
			return nil, p.wrap(errTooLong)
		}
	}
	p.left--
	p.row++
	return append(object, '}'), nil
}

// wrap adds the row to an error that ends the reading.
func (p *parquetRows) wrap(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %s: row %d: %w", p.name, p.row+1, err)
}

func (p *parquetRows) position() Position {
	if p.sum == nil {
		sum := sha256.New()
		_, err := io.Copy(sum, io.NewSectionReader(p.bytes, 0, math.MaxInt64))
		if p.sum = sum.Sum(nil); err != nil {
			p.sum = make([]byte, sha256.Size) // equal to no file
		}
	}
	return Position{Offset: int64(p.row), Line: p.row, Sum: p.sum}
}

func (p *parquetRows) skip(to Position, changed error) error {
	if !bytes.Equal(p.position().Sum, to.Sum) {
		return changed
	}
	for p.row < to.Line {
		if _, err := p.read(); errors.Is(err, io.EOF) {
			return changed
		} else if err != nil {
			return err
		}
	}
	return nil
}

// A parquetColumn reads a column as JSON values.
type parquetColumn struct {
	name     string
	key      []byte // JSON of name
	index    int
	list     bool
	unsigned bool
	values   parquet.ColumnChunkValueReader // nil before the first row group
	buffer   [256]parquet.Value
	ready    []parquet.Value // of buffer, not used yet
}

// newParquetColumn returns nil for a column of a type that has no JSON value.
func newParquetColumn(index int, path []string, leaf parquet.LeafColumn) *parquetColumn {
	if leaf.MaxRepetitionLevel > 1 {
		return nil
	}
	t := leaf.Node.Type()
	switch t.Kind() {
	case parquet.Boolean, parquet.Int32, parquet.Int64, parquet.Float, parquet.Double, parquet.ByteArray:
	default:
		return nil
	}
	c := &parquetColumn{index: index, list: leaf.MaxRepetitionLevel == 1}
	if logical := t.LogicalType(); logical != nil {
		if logical.Decimal != nil {
			return nil
		}
		c.unsigned = logical.Integer != nil && !logical.Integer.IsSigned
	}
	var parts []string
	for i, part := range path {
		if i == 0 || !c.list || !slices.Contains([]string{"list", "element", "item", "array", "bag", "array_element"}, part) {
			parts = append(parts, part)
		}
	}
	c.name = strings.Join(parts, ".")
	c.key, _ = json.Marshal(c.name) //nolint:errcheck // strings have no error
	return c
}

// open starts a row group.
func (c *parquetColumn) open(chunk parquet.ColumnChunk) error {
	if c.values != nil {
		if err := c.values.Close(); err != nil {
			return err
		}
	}
	c.values, c.ready = parquet.NewColumnChunkValueReader(chunk), nil
	return nil
}

// peek returns the next value without using it, or io.EOF.
func (c *parquetColumn) peek() (parquet.Value, error) {
	for len(c.ready) == 0 {
		n, err := c.values.ReadValues(c.buffer[:])
		if c.ready = c.buffer[:n]; n == 0 && err != nil {
			return parquet.Value{}, err
		}
	}
	return c.ready[0], nil
}

// appendRow appends the JSON value of the next row.
func (c *parquetColumn) appendRow(dst []byte) ([]byte, error) {
	v, err := c.peek()
	if err != nil {
		return nil, err
	}
	if !c.list {
		c.ready = c.ready[1:]
		return c.appendValue(dst, v), nil
	}
	dst = append(dst, '[')
	empty := len(dst)
	for first := true; ; first = false {
		v, err := c.peek()
		if errors.Is(err, io.EOF) || err == nil && v.RepetitionLevel() == 0 && !first {
			return append(dst, ']'), nil
		}
		if err != nil {
			return nil, err
		}
		if !v.IsNull() {
			if len(dst) > empty {
				dst = append(dst, ',')
			}
			dst = c.appendValue(dst, v)
		}
		if c.ready = c.ready[1:]; len(dst) > maxLine {
			return nil, errTooLong
		}
	}
}

func (c *parquetColumn) appendValue(dst []byte, v parquet.Value) []byte {
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(dst, v.Boolean())
	case parquet.Int32:
		if c.unsigned {
			return strconv.AppendUint(dst, uint64(v.Uint32()), 10)
		}
		return strconv.AppendInt(dst, int64(v.Int32()), 10)
	case parquet.Int64:
		if c.unsigned {
			return strconv.AppendUint(dst, v.Uint64(), 10)
		}
		return strconv.AppendInt(dst, v.Int64(), 10)
	case parquet.Float:
		return appendFloat(dst, float64(v.Float()), 32)
	case parquet.Double:
		return appendFloat(dst, v.Double(), 64)
	case parquet.ByteArray:
		return appendText(dst, v.ByteArray())
	}
	return append(dst, "null"...)
}

// appendFloat appends a number, or null if JSON has none.
func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// appendText appends a string. Bytes that are not UTF-8 stay, so that CheckText finds
// them.
func appendText(dst, text []byte) []byte {
	if !utf8.Valid(text) {
		return append(append(append(dst, '"'), text...), '"')
	}
	raw, _ := json.Marshal(string(text)) //nolint:errcheck // strings have no error
	return append(dst, raw...)
}

// usualNames lists the names that Fields, Candidates and Texts use without flags.
var usualNames = slices.Concat([]string{"query", "document", "text", "title", "score", "empty"}, documentIDs, queryIDs,
	judgedQueries, judgedDocuments, judgements, positiveFields, negativeFields, listFields, labelFields, labelsFields)

// NewParquetReader returns a reader of the rows of a Parquet file as objects.
func NewParquetReader(name string, file io.ReaderAt, size int64, o Options) (*Reader, error) {
	if o.Header != GuessHeader {
		return nil, fmt.Errorf("%s is %s: %w", name, Parquet, ErrNoColumns)
	}
	rows, err := newParquetRows(name, file, size, usualNames, o.Fields.names())
	if err != nil {
		return nil, err
	}
	if missing := missingColumns(rows.names, o.Fields, o.IDs); missing != "" {
		return nil, fmt.Errorf("%s: no column %s of text or numbers; the file has %s; %s", name, missing, Abridge([]byte(strings.Join(rows.names, ", "))), nameFlag(missing))
	}
	r := &Reader{Format: Parquet, name: name, source: rows, ids: o.IDs, sources: make(map[string]bool), options: o}
	r.parser = parquetLayout{jsonl{score: o.Score, ids: o.IDs, fields: o.Fields}}
	if o.IDs {
		r.check = newIDCheck()
	}
	return r, nil
}

// parquetLayout is the layout of the lines that WriteParquet reads: a score or null
// for each row.
type parquetLayout struct{ jsonl }

// AppendScored appends the score.
func (parquetLayout) AppendScored(dst []byte, _ *Record, v Value) ([]byte, error) {
	value, err := json.Marshal(v.Score)
	return append(append(dst, value...), '\n'), err
}

// AppendFailed appends null.
func (parquetLayout) AppendFailed(dst []byte, _ *Record) ([]byte, error) {
	return append(dst, "null\n"...), nil
}

// ReadParquetDocuments reads the rows of a Parquet file as documents.
func ReadParquetDocuments(name string, file io.ReaderAt, size int64, fields Fields) (*Documents, error) {
	rows, err := newParquetRows(name, file, size, nil, fields.names())
	if err != nil {
		return nil, err
	}
	d := &Documents{Format: Parquet, Basis: "since it begins as Parquet does", sources: make(map[string]bool), fields: fields}
	for {
		row, err := rows.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var object Object
		if err = CheckText(row); err == nil {
			object, err = ParseObject(row)
		}
		if err == nil {
			err = d.addObject(object, rows.row)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", name, rows.row, err)
		}
	}
	if len(d.List) == 0 {
		return nil, fmt.Errorf("%s has no documents", name)
	}
	return d, nil
}
