package records

import (
	"errors"
	"fmt"
	"io"
)

// Options say what a Reader takes.
type Options struct {
	Format Format
	Score  ScorePolicy
	IDs    bool // records must have ids that a TREC run can hold

	// Queries and Documents are the texts that a TREC run names.
	Queries, Documents *Texts
}

// ErrNoTexts is of a TREC run without the texts that it names.
var ErrNoTexts = errors.New("a TREC run needs its queries and documents")

// A Reader reads records.
type Reader struct {
	// Format is that of the input, found if Auto was given.
	Format Format

	lines *Lines
	parser
	ids bool
}

// NewReader reads records from r, which errors call name. It reads the first
// line if it is to find the format.
func NewReader(name string, r io.Reader, o Options) (*Reader, error) {
	reader := &Reader{Format: o.Format, lines: NewLines(name, r), ids: o.IDs}
	if o.Format == Auto {
		head, err := reader.lines.head()
		if err != nil {
			return nil, err
		}
		if reader.Format, err = detect(name, head, o.Score != RefuseScore); err != nil {
			return nil, err
		}
	}
	switch reader.Format {
	case JSONL:
		reader.parser = jsonl{score: o.Score, ids: o.IDs}
	case TSV, MSMARCO:
		reader.parser = columns{names: columnsOf[reader.Format], score: o.Score}
	case TREC:
		if o.Queries == nil || o.Documents == nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNoTexts)
		}
		reader.parser = trec{queries: o.Queries, documents: o.Documents}
	default:
		return nil, fmt.Errorf("%s: no format %q", name, reader.Format)
	}
	if o.IDs && reader.Format == TSV {
		return nil, fmt.Errorf("%s: a TREC run needs ids, and tsv has none; the columns qid, pid, query, passage are --format msmarco", name)
	}
	return reader, nil
}

// Layout is that of the input.
func (r *Reader) Layout() Layout {
	if layout, ok := r.parser.(Layout); ok {
		return layout
	}
	return Scored{}
}

// Next returns the next record, or io.EOF. What is wrong with a line is in the
// record; an error is one that ends the reading.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.lines.read()
		record := Record{Line: r.lines.number, Text: line}
		switch {
		case errors.Is(err, errTooLong):
			record.Err = err
			return record, nil
		case err != nil:
			return Record{}, err
		case r.blank(line):
			continue
		}
		err = r.parse(&record)
		if err == nil && r.ids {
			err = checkIDs(&record)
		}
		var broken *readError
		switch {
		case errors.As(err, &broken):
			return Record{}, r.Errorf(&record, "%w", err)
		case err != nil:
			return Record{Line: record.Line, Text: line, Err: err}, nil
		}
		return record, nil
	}
}

// Errorf is an error about a record's line.
func (r *Reader) Errorf(record *Record, format string, args ...any) error {
	return fmt.Errorf("%s: line %d: %w", r.lines.name, record.Line, fmt.Errorf(format, args...))
}

// Position is behind the record that Next returned last.
func (r *Reader) Position() Position { return r.lines.position() }

// Skip reads up to a position that another Reader reported. It must come before
// Next. It returns changed if what stands before the position is not what stood
// there then.
func (r *Reader) Skip(to Position, changed error) error { return r.lines.skip(to, changed) }
