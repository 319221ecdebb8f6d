package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// columnsOf maps the formats with tabs between texts to their columns.
var columnsOf = map[Format][]string{
	TSV:     {"query", "document"},
	MSMARCO: {"qid", "pid", "query", "passage"},
}

// columns is a format with tabs between texts, without quotes or escapes. A score
// is an additional last column.
type columns struct {
	names []string
	score ScorePolicy
}

func (columns) blank(line []byte) bool { return len(trimEnd(line)) == 0 }

func (c columns) parse(r *Record) error {
	line := trimEnd(r.Text)
	n := bytes.Count(line, []byte("\t")) + 1
	if n == len(c.names)+1 && c.score != RefuseScore {
		last := line[bytes.LastIndexByte(line, '\t')+1:]
		if _, err := strconv.ParseFloat(string(last), 32); err != nil {
			return fmt.Errorf("%s; the last is not a score: %q", c.count(n), Abridge(last))
		}
		n--
	}
	if n == len(c.names)+1 {
		return fmt.Errorf("%s; if the last is a score, give --overwrite-score", c.count(n))
	}
	if n != len(c.names) {
		return errors.New(c.count(n))
	}
	texts := strings.SplitN(string(line), "\t", len(c.names)+1)
	if len(c.names) == 4 {
		r.QueryID, r.DocumentID, texts = texts[0], texts[1], texts[2:]
	}
	r.Query, r.Document, r.Source = texts[0], texts[1], c.names[len(c.names)-1]
	return nil
}

func (c columns) count(n int) string {
	return fmt.Sprintf("%s, expected %d (%s)", plural(n, "column"), len(c.names), strings.Join(c.names, ", "))
}

// AppendHeader appends the header row with the column "score".
func (c columns) AppendHeader(dst []byte, r *Record) []byte {
	return c.appendColumn(dst, r, []byte("score"))
}

// AppendScored appends the row with the score as its last column.
func (c columns) AppendScored(dst []byte, r *Record, v Value) ([]byte, error) {
	value, err := json.Marshal(v.Score)
	if err != nil {
		return nil, err
	}
	return c.appendColumn(dst, r, value), nil
}

// appendColumn appends a line with a last column, which replaces an old score.
func (c columns) appendColumn(dst []byte, r *Record, value []byte) []byte {
	line := trimEnd(r.Text)
	end := r.Text[len(line):]
	if bytes.Count(line, []byte("\t")) == len(c.names) { // an old score
		line = line[:bytes.LastIndexByte(line, '\t')]
	}
	dst = append(dst, line...)
	dst = append(dst, '\t')
	dst = append(dst, value...)
	dst = append(dst, end...)
	return append(dst, '\n')
}

// checkHeader rejects a header row whose number of columns differs from that of pairs.
func (c columns) checkHeader(line []byte) error {
	n := bytes.Count(trimEnd(line), []byte("\t")) + 1
	if n != len(c.names) && n != len(c.names)+1 {
		return fmt.Errorf("the header row has %s", c.count(n))
	}
	return nil
}

// headerNames lists the usual names of columns of pairs and texts.
var headerNames = []string{
	"query", "document", "passage", "text", "title", "body", "url", "contents", "content", "question", "answer",
	"sentence", "sentence1", "sentence2", "sentence_1", "sentence_2", "text1", "text2", "text_1", "text_2",
	"id", "_id", "qid", "pid", "did", "docid", "doc", "query_id", "query-id", "queryid", "doc_id", "document_id",
	"documentid", "passage_id", "corpus-id", "corpus_id", "docno", "rank", "score", "label", "relevance",
}

// isHeader reports whether every column of a row is one of headerNames.
func isHeader(line []byte) bool {
	for name := range strings.SplitSeq(string(trimEnd(line)), "\t") {
		if !slices.Contains(headerNames, strings.ToLower(strings.Trim(name, " \"#"))) {
			return false
		}
	}
	return true
}

// AppendFailed appends empty columns and the error in place of the score, which no
// reader can take for a score.
func (c columns) AppendFailed(dst []byte, r *Record) ([]byte, error) {
	for range c.names {
		dst = append(dst, '\t')
	}
	text := strings.Join(strings.Fields(r.Err.Error()), " ")
	return fmt.Appendf(dst, "error: line %d: %s\n", r.Line, text), nil
}
