package records

import (
	"bufio"
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
// best first, with the tag. Queries come in the order of their ids as bytes,
// documents of one score in that of their rows. Rows are sorted in chunks that
// are kept in a file of dir and merged, so that memory does not grow with them.
func Rank(dst io.Writer, rows io.Reader, dir, tag string) (err error) {
	scratch, err := Scratch(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	chunks, err := sortChunks(scratch, rows)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(dst)
	if err := mergeChunks(out, scratch, chunks, tag); err != nil {
		return err
	}
	return out.Flush()
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
	query, document string
	score           float32
	text            string // of the score
}

func parseRow(line []byte) (row, error) {
	fields := strings.Split(string(line), " ")
	if len(fields) != 3 {
		return row{}, fmt.Errorf("%q is not an id, an id and a score", Abridge(line))
	}
	score, err := strconv.ParseFloat(fields[2], 32)
	return row{fields[0], fields[1], float32(score), fields[2]}, err
}

// order is that of a run.
func (r row) order(other row) int {
	return cmp.Or(strings.Compare(r.query, other.query), cmp.Compare(other.score, r.score))
}

// sortChunks writes the rows to scratch, each chunk of them in order, and
// returns where the chunks end.
func sortChunks(scratch io.Writer, rows io.Reader) ([]int64, error) {
	out := bufio.NewWriter(scratch)
	var ends []int64
	var chunk []row
	size, written := 0, int64(0)
	flush := func() error {
		slices.SortStableFunc(chunk, row.order)
		for _, r := range chunk {
			n, err := fmt.Fprintf(out, "%s %s %s\n", r.query, r.document, r.text)
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
	c.first, err = parseRow(line)
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
func mergeChunks(out io.Writer, scratch io.ReaderAt, ends []int64, tag string) error {
	var merged chunks
	start := int64(0)
	for i, end := range ends {
		c := &chunk{number: i, lines: newLines("sorted rows", io.NewSectionReader(scratch, start, end-start), mergeBytes)}
		start = end
		ok, err := c.next()
		if err != nil {
			return err
		}
		if ok {
			merged = append(merged, c)
		}
	}
	heap.Init(&merged)
	query, rank := "", 0
	for len(merged) > 0 {
		best := merged[0]
		if r := best.first; rank == 0 || r.query != query {
			query, rank = r.query, 0
		}
		rank++
		if _, err := fmt.Fprintf(out, "%s Q0 %s %d %s %s\n", query, best.first.document, rank, best.first.text, tag); err != nil {
			return err
		}
		ok, err := best.next()
		if err != nil {
			return err
		}
		if ok {
			heap.Fix(&merged, 0)
		} else {
			heap.Pop(&merged)
		}
	}
	return nil
}
