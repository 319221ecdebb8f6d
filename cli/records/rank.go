package records

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Rank sorts chunkBytes of rows in memory at once, and buffers mergeBytes of each
// chunk in the merge.
const (
	chunkBytes = 2 << 20
	mergeBytes = 8 << 10
)

// Rank writes a TREC run with the tag from the rows of Scored: grouped by query, best
// documents first. Queries keep the order of their first rows. The score is the
// logit; documents with equal logits have trec_eval's order, by descending id. Of
// rows with the same ids, the best one stays. Rank sorts the rows in chunks, keeps
// these in a file in dir and merges them, so that memory grows only with the number
// of queries and of documents per query.
func Rank(dst io.Writer, rows io.Reader, dir, tag string) (_ Duplicates, err error) {
	scratch, err := Scratch(dir)
	if err != nil {
		return Duplicates{}, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	chunks, err := sortChunks(scratch, rows)
	if err != nil {
		return Duplicates{}, err
	}
	out := bufio.NewWriter(dst)
	duplicates, err := mergeChunks(out, scratch, chunks, tag)
	if err != nil {
		return Duplicates{}, err
	}
	return duplicates, out.Flush()
}

// Duplicates reports the rows that Rank dropped, since a better row has their ids.
type Duplicates struct {
	Count    int
	Examples []string // the first few
}

func (d *Duplicates) add(r row, kept int) {
	const most = 5
	d.Count++
	if len(d.Examples) < most {
		d.Examples = append(d.Examples, fmt.Sprintf("query %s, document %s: line %d left out for line %d", r.query, r.document, r.line, kept))
	}
}

// Scratch creates a temporary file without a name in dir, or in the system's folder
// if dir is "". The file disappears with the process, also if that is killed.
func Scratch(dir string) (*os.File, error) {
	file, err := os.CreateTemp(dir, ".mlxrank-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// A row is a document in a TREC run.
type row struct {
	turn            int // index of the query
	query, document string
	logit           float32
	text            string // digits of the logit
	line            int    // of the input
}

// parseRow parses a row of Scored.
func parseRow(line []byte) (row, error) {
	fields := strings.Split(string(line), " ")
	if len(fields) != 4 {
		return row{}, fmt.Errorf("expected two ids, a logit and a line, found %q", Abridge(line))
	}
	logit, err := strconv.ParseFloat(fields[2], 32)
	if err != nil {
		return row{}, err
	}
	n, err := strconv.Atoi(fields[3])
	return row{query: fields[0], document: fields[1], logit: float32(logit), text: fields[2], line: n}, err
}

// parseSortedRow parses a row of sortChunks.
func parseSortedRow(line []byte) (row, error) {
	turn, rest, _ := bytes.Cut(line, []byte(" "))
	r, err := parseRow(rest)
	if err != nil {
		return row{}, err
	}
	r.turn, err = strconv.Atoi(string(turn))
	return r, err
}

// order compares rows by their order in a run.
func (r row) order(other row) int {
	return cmp.Or(
		cmp.Compare(r.turn, other.turn),
		cmp.Compare(other.logit, r.logit),
		strings.Compare(other.document, r.document),
		cmp.Compare(r.line, other.line),
	)
}

// sortChunks writes sorted chunks of rows to scratch and returns the offsets of their
// ends.
func sortChunks(scratch io.Writer, rows io.Reader) ([]int64, error) {
	out := bufio.NewWriter(scratch)
	var ends []int64
	var chunk []row
	size, written := 0, int64(0)
	turns := make(map[string]int) // of the queries
	flush := func() error {
		slices.SortStableFunc(chunk, row.order)
		for _, r := range chunk {
			n, err := fmt.Fprintf(out, "%d %s %s %s %d\n", r.turn, r.query, r.document, r.text, r.line)
			if err != nil {
				return err
			}
			written += int64(n)
		}
		ends = append(ends, written)
		chunk, size = chunk[:0], 0
		return nil
	}
	for lines := NewLines("rows", rows); ; {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		r, err := parseRow(line)
		if err != nil {
			return nil, lines.Errorf("%w", err)
		}
		turn, ok := turns[r.query]
		if !ok {
			turn = len(turns)
			turns[r.query] = turn
		}
		r.turn = turn
		chunk, size = append(chunk, r), size+len(line)+100
		if size >= chunkBytes {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return ends, out.Flush()
}

// A chunk reads sorted rows, of which first is the next to merge.
type chunk struct {
	number int
	lines  *Lines
	first  row
}

// order compares chunks by their first rows.
func (c *chunk) order(other *chunk) int {
	return cmp.Or(c.first.order(other.first), cmp.Compare(c.number, other.number))
}

// next reads the next row into first. ok is false at the end of the chunk.
func (c *chunk) next() (ok bool, err error) {
	line, err := c.lines.Next()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	c.first, err = parseSortedRow(line)
	return true, err
}

// mergeChunks merges the chunks into a run.
func mergeChunks(out io.Writer, scratch io.ReaderAt, ends []int64, tag string) (Duplicates, error) {
	var duplicates Duplicates
	merged, err := openChunks(scratch, ends)
	if err != nil {
		return duplicates, err
	}
	turn := -1
	var lines map[string]int // by written document of the query
	for len(merged) > 0 {
		best := merged[0]
		r := best.first
		if r.turn != turn {
			turn, lines = r.turn, make(map[string]int)
		}
		if kept, ok := lines[r.document]; ok {
			duplicates.add(r, kept)
		} else {
			lines[r.document] = r.line
			if _, err := fmt.Fprintf(out, "%s Q0 %s %d %s %s\n", r.query, r.document, len(lines), r.text, tag); err != nil {
				return duplicates, err
			}
		}
		ok, err := best.next()
		if err != nil {
			return duplicates, err
		}
		merged = merged[1:]
		if ok {
			i, _ := slices.BinarySearchFunc(merged, best, (*chunk).order)
			merged = slices.Insert(merged, i, best)
		}
	}
	return duplicates, nil
}

// openChunks opens the chunks and sorts them by their first rows.
func openChunks(scratch io.ReaderAt, ends []int64) ([]*chunk, error) {
	var merged []*chunk
	start := int64(0)
	for i, end := range ends {
		c := &chunk{number: i, lines: newLines("sorted rows", io.NewSectionReader(scratch, start, end-start), mergeBytes)}
		start = end
		ok, err := c.next()
		if err != nil {
			return nil, err
		}
		if ok {
			merged = append(merged, c)
		}
	}
	slices.SortFunc(merged, (*chunk).order)
	return merged, nil
}
