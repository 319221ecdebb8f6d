package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// columnsOf are the columns of the formats that separate texts by tabs.
var columnsOf = map[Format][]string{
	TSV:     {"query", "document"},
	MSMARCO: {"qid", "pid", "query", "passage"},
}

// columns is a format of texts between tabs, without quotes or escapes. A score
// is one more column.
type columns struct {
	names []string
	score ScorePolicy
}

func (columns) blank(line []byte) bool { return len(bytes.TrimSuffix(line, []byte("\r"))) == 0 }

func (c columns) parse(r *Record) error {
	line := bytes.TrimSuffix(r.Text, []byte("\r"))
	n := bytes.Count(line, []byte("\t")) + 1
	if n == len(c.names)+1 && c.score != RefuseScore {
		last := line[bytes.LastIndexByte(line, '\t')+1:]
		if _, err := strconv.ParseFloat(string(last), 32); err != nil {
			return fmt.Errorf("%s, and the last is not a score: %q", c.count(n), Abridge(last))
		}
		n--
	}
	if n == len(c.names)+1 {
		return fmt.Errorf("%s; if the last is a score, give --overwrite-score", c.count(n))
	}
	if n != len(c.names) {
		return fmt.Errorf("%s", c.count(n))
	}
	texts := strings.SplitN(string(line), "\t", len(c.names)+1)
	if len(c.names) == 4 {
		r.QueryID, r.DocumentID, texts = texts[0], texts[1], texts[2:]
	}
	r.Query, r.Document = texts[0], texts[1]
	return nil
}

func (c columns) count(n int) string {
	return fmt.Sprintf("%s, where %d are needed (%s)", plural(n, "column"), len(c.names), strings.Join(c.names, ", "))
}

func (c columns) AppendScored(dst []byte, r *Record, score float32) ([]byte, error) {
	value, err := json.Marshal(score)
	if err != nil {
		return nil, err
	}
	line, ended := bytes.CutSuffix(r.Text, []byte("\r"))
	if bytes.Count(line, []byte("\t")) == len(c.names) { // there is a score
		line = line[:bytes.LastIndexByte(line, '\t')]
	}
	dst = append(dst, line...)
	dst = append(dst, '\t')
	dst = append(dst, value...)
	if ended {
		dst = append(dst, '\r')
	}
	return append(dst, '\n'), nil
}

// AppendFailed leaves the columns empty and says in place of the score what is
// wrong, so that it cannot be read as one.
func (c columns) AppendFailed(dst []byte, r *Record) ([]byte, error) {
	for range c.names {
		dst = append(dst, '\t')
	}
	text := strings.Join(strings.Fields(r.Err.Error()), " ")
	return fmt.Appendf(dst, "error: line %d: %s\n", r.Line, text), nil
}
