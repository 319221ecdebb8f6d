package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// The columns of a TREC run and of MS MARCO's shorter runs. White space separates them.
var (
	runColumns      = []string{"qid", "Q0", "docid", "rank", "score", "tag"}
	shortRunColumns = []string{"qid", "pid", "rank"}
)

// trec is the format of a TREC run, whose texts are in other files.
type trec struct {
	queries, documents *Texts
	short              bool // the lines are qid pid rank
}

// newTREC returns the format of a run with this first line.
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
		return fmt.Errorf("%s, expected %d (qid pid rank) as in the first line", plural(len(fields), "column"), len(shortRunColumns))
	case t.short && !isInteger(fields[2]):
		return fmt.Errorf("rank %q is not an integer; expected a run qid pid rank", Abridge(fields[2]))
	case t.short:
		document = 1
	case len(fields) != len(runColumns):
		return fmt.Errorf("%s, expected %d (%s)", plural(len(fields), "column"), len(runColumns), strings.Join(runColumns, " "))
	}
	r.QueryID, r.DocumentID = string(fields[0]), string(fields[document])
	var err error
	if r.Query, _, err = t.queries.Get(r.QueryID); err != nil {
		return err
	}
	r.Document, r.Source, err = t.documents.Get(r.DocumentID)
	return err
}

// Scored is the layout of the rows that Rank turns into a TREC run: ids, logit and
// line. It omits a record with an error, since a run cannot represent it.
type Scored struct{}

// AppendHeader appends nothing.
func (Scored) AppendHeader(dst []byte, _ *Record) []byte { return dst }

// AppendScored appends a row.
func (Scored) AppendScored(dst []byte, r *Record, v Value) ([]byte, error) {
	value, err := json.Marshal(v.Logit) // parses to the same float32
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(dst, "%s %s %s %d\n", r.QueryID, r.DocumentID, value, r.Line), nil
}

// AppendFailed appends nothing.
func (Scored) AppendFailed(dst []byte, _ *Record) ([]byte, error) { return dst, nil }

// checkIDs rejects ids that are not valid in a TREC run.
func checkIDs(r *Record) error {
	for _, id := range []struct{ name, value string }{{"query", r.QueryID}, {"document", r.DocumentID}} {
		if id.value == "" {
			return fmt.Errorf("the %s id is empty; a TREC run needs one", id.name)
		}
		if strings.ContainsFunc(id.value, unicode.IsSpace) {
			return fmt.Errorf("the %s id %q contains white space, which a TREC run cannot represent", id.name, Abridge([]byte(id.value)))
		}
	}
	return nil
}
