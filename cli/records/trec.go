package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// The columns of a TREC run and of MS MARCO's shorter runs, between white space.
var (
	runColumns      = []string{"qid", "Q0", "docid", "rank", "score", "tag"}
	shortRunColumns = []string{"qid", "pid", "rank"}
)

// trec reads a TREC run, whose texts stand elsewhere.
type trec struct {
	queries, documents *Texts
	short              bool // the lines are qid pid rank
}

// newTREC reads a run that has the form of its first line.
func newTREC(first []byte, queries, documents *Texts) trec {
	short := len(bytes.Fields(first)) == len(shortRunColumns)
	return trec{queries: queries, documents: documents, short: short}
}

func (trec) blank(line []byte) bool { return isBlank(line) }

func (t trec) parse(r *Record) error {
	fields := bytes.Fields(r.Text)
	document := 2
	switch {
	case t.short && len(fields) != len(shortRunColumns):
		return fmt.Errorf("%s, where a run qid pid rank has %d, as the first line does", plural(len(fields), "column"), len(shortRunColumns))
	case t.short && !isInteger(fields[2]):
		return fmt.Errorf("%s, where a run qid pid rank has a number last, not %q", plural(len(fields), "column"), Abridge(fields[2]))
	case t.short:
		document = 1
	case len(fields) != len(runColumns):
		return fmt.Errorf("%s, where a TREC run has %d (%s)", plural(len(fields), "column"), len(runColumns), strings.Join(runColumns, " "))
	}
	r.QueryID, r.DocumentID = string(fields[0]), string(fields[document])
	var err error
	if r.Query, _, err = t.queries.Get(r.QueryID); err != nil {
		return err
	}
	r.Document, r.Source, err = t.documents.Get(r.DocumentID)
	return err
}

// Scored is the layout of rows that Rank makes a TREC run of: ids, logit and
// line. A record with an error leaves nothing: a run has no place for it.
type Scored struct{}

// AppendHeader appends nothing.
func (Scored) AppendHeader(dst []byte, _ *Record) []byte { return dst }

// AppendScored appends a row.
func (Scored) AppendScored(dst []byte, r *Record, v Value) ([]byte, error) {
	value, err := json.Marshal(v.Logit) // read again, it is the same float32
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(dst, "%s %s %s %d\n", r.QueryID, r.DocumentID, value, r.Line), nil
}

// AppendFailed appends nothing.
func (Scored) AppendFailed(dst []byte, _ *Record) ([]byte, error) { return dst, nil }

// checkIDs refuses ids that a TREC run cannot hold.
func checkIDs(r *Record) error {
	for _, id := range []struct{ name, value string }{{"query", r.QueryID}, {"document", r.DocumentID}} {
		if id.value == "" {
			return fmt.Errorf("the %s id is empty; a TREC run needs one", id.name)
		}
		if strings.ContainsFunc(id.value, unicode.IsSpace) {
			return fmt.Errorf("the %s id %q has white space in it, which a TREC run cannot hold", id.name, Abridge([]byte(id.value)))
		}
	}
	return nil
}
