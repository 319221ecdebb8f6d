package records

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Rank sorts chunkBytes of the rows in memory at once, and buffers mergeBytes of
// each chunk as it merges them.
const (
	chunkBytes = 2 << 20
	mergeBytes = 8 << 10
)

// Rank makes a TREC run of the rows that Scored has written: grouped by query,
// best first, with the tag. Queries come in the order of their first rows. The
// score is the logit, and documents of one logit come in the order that
// trec_eval gives them, by descending id. Of rows with the same ids the best one
// counts. Rows are sorted in chunks that are kept in a file of dir and merged, so
// that memory grows with the queries and the documents of one only.
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

// Duplicates are the rows that Rank left out because another has the same ids.
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

// Scratch is a file in dir, "" for the system's place, without a name: it goes
// with the process, however that ends.
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

// A row is what a TREC run says of a document.
type row struct {
	turn            int // of the query
	query, document string
	logit           float32
	text            string // of the logit
	line            int    // of the input
}

// parseRow reads a row as Scored writes it.
func parseRow(line []byte) (row, error) {
	fields := strings.Split(string(line), " ")
	if len(fields) != 4 {
		return row{}, fmt.Errorf("%q is not two ids, a logit and a line", Abridge(line))
	}
	logit, err := strconv.ParseFloat(fields[2], 32)
	if err != nil {
		return row{}, err
	}
	n, err := strconv.Atoi(fields[3])
	return row{query: fields[0], document: fields[1], logit: float32(logit), text: fields[2], line: n}, err
}

// parseSortedRow reads a row as sortChunks writes it.
func parseSortedRow(line []byte) (row, error) {
	turn, rest, _ := bytes.Cut(line, []byte(" "))
	r, err := parseRow(rest)
	if err != nil {
		return row{}, err
	}
	r.turn, err = strconv.Atoi(string(turn))
	return r, err
}

// order is that of a run.
func (r row) order(other row) int {
	return cmp.Or(
		cmp.Compare(r.turn, other.turn),
		cmp.Compare(other.logit, r.logit),
		strings.Compare(other.document, r.document),
		cmp.Compare(r.line, other.line),
	)
}

// sortChunks writes the rows to scratch, each chunk of them in order, and
// returns where the chunks end.
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

// A chunk is a stretch of sorted rows and the first of those left.
type chunk struct {
	number int
	lines  *Lines
	first  row
}

// next reads the first row of those left. ok is false if none is.
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

// chunks is a heap by the order of their first rows.
type chunks []*chunk

func (c chunks) Len() int { return len(c) }
func (c chunks) Less(i, j int) bool {
	return cmp.Or(c[i].first.order(c[j].first), cmp.Compare(c[i].number, c[j].number)) < 0
}
func (c chunks) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *chunks) Push(x any)   { *c = append(*c, x.(*chunk)) }
func (c *chunks) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// mergeChunks writes the run.
func mergeChunks(out io.Writer, scratch io.ReaderAt, ends []int64, tag string) (Duplicates, error) {
	var duplicates Duplicates
	merged, err := openChunks(scratch, ends)
	if err != nil {
		return duplicates, err
	}
	turn := -1
	var lines map[string]int // of the documents of the query that are written
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
		if ok {
			heap.Fix(&merged, 0)
		} else {
			heap.Pop(&merged)
		}
	}
	return duplicates, nil
}

// openChunks reads the first row of each chunk.
func openChunks(scratch io.ReaderAt, ends []int64) (chunks, error) {
	var merged chunks
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
	heap.Init(&merged)
	return merged, nil
}
