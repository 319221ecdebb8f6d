package records

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// WriteParquet writes the rows of a Parquet file with the column "score" at the end,
// which replaces an old one. Its values come from lines of parquetLayout. Columns,
// row groups, encodings and compression stay; the key-value metadata of programs such
// as Arrow and pandas, which describe the old columns, is left out.
func WriteParquet(dst io.Writer, name string, r io.ReaderAt, size int64, scores io.Reader) (err error) {
	file, err := openParquet(name, r, size)
	if err != nil {
		return err
	}
	defer recoverDamage(name, &err)
	schema := newScoredSchema(file)
	w := parquet.NewGenericWriter[any](dst, schema.schema, parquet.CreatedBy("mlxrank", "", ""))
	lines := NewLines("scores", scores)
	for _, group := range file.RowGroups() {
		if group.NumRows() == 0 {
			continue // it may have no pages to read
		}
		if err := schema.copyGroup(w, group, lines); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if _, err := lines.Next(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s has fewer rows than there are scores: %w", name, errors.Join(err, io.ErrUnexpectedEOF))
	}
	return w.Close()
}

// A scoredSchema is a schema with a column of scores.
type scoredSchema struct {
	schema  *parquet.Schema
	columns []int // new index of each old column; -1 for old scores
	score   int   // index
}

// A scoredNode is a root with other fields, in their order in the file. parquet.Group
// would sort them.
type scoredNode struct {
	parquet.Node
	fields []parquet.Field
}

func (n scoredNode) Fields() []parquet.Field { return n.fields }

func newScoredSchema(file *parquet.File) *scoredSchema {
	s := &scoredSchema{}
	for _, path := range file.Schema().Columns() {
		if path[0] == "score" {
			s.columns = append(s.columns, -1)
			continue
		}
		s.columns, s.score = append(s.columns, s.score), s.score+1
	}
	fields := slices.DeleteFunc(slices.Clone(file.Root().Fields()), func(f parquet.Field) bool { return f.Name() == "score" })
	fields = append(fields, parquet.Group{"score": parquet.Optional(parquet.Leaf(parquet.FloatType))}.Fields()...)
	s.schema = parquet.NewSchema(file.Schema().Name(), scoredNode{file.Root(), fields})
	return s
}

// copyGroup writes the rows of a group with their scores.
func (s *scoredSchema) copyGroup(w *parquet.GenericWriter[any], group parquet.RowGroup, scores *Lines) (err error) {
	rows := group.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	buffer := make([]parquet.Row, 64)
	for {
		n, err := rows.ReadRows(buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		ended := err != nil
		for i := range buffer[:n] {
			score, err := scores.Next()
			if err != nil {
				return fmt.Errorf("a row has no score: %w", err)
			}
			if buffer[i], err = s.scored(buffer[i], string(score)); err != nil {
				return err
			}
		}
		if _, err := w.WriteRows(buffer[:n]); err != nil {
			return err
		}
		if ended {
			return nil
		}
	}
}

// scored replaces the score of a row.
func (s *scoredSchema) scored(row parquet.Row, score string) (parquet.Row, error) {
	kept := row[:0]
	for _, v := range row {
		if column := s.columns[v.Column()]; column >= 0 {
			kept = append(kept, v.Level(v.RepetitionLevel(), v.DefinitionLevel(), column))
		}
	}
	if score == "null" {
		return append(kept, parquet.NullValue().Level(0, 0, s.score)), nil
	}
	f, err := strconv.ParseFloat(score, 32)
	return append(kept, parquet.FloatValue(float32(f)).Level(0, 1, s.score)), err
}
