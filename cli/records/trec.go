package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// runColumns are the columns of a TREC run, between white space.
var runColumns = []string{"qid", "Q0", "docid", "rank", "score", "tag"}

// trec reads a TREC run, whose texts stand elsewhere.
type trec struct {
	queries, documents *Texts
}

func (trec) blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }

func (t trec) parse(r *Record) error {
	n := 0
	for range bytes.FieldsSeq(r.Text) {
		n++
	}
	if n != len(runColumns) {
		return fmt.Errorf("%s, where a TREC run has %d (%s)", plural(n, "column"), len(runColumns), strings.Join(runColumns, " "))
	}
	fields := bytes.Fields(r.Text)
	r.QueryID, r.DocumentID = string(fields[0]), string(fields[2])
	var err error
	if r.Query, err = t.queries.Get(r.QueryID); err != nil {
		return err
	}
	r.Document, err = t.documents.Get(r.DocumentID)
	return err
}

// Scored is the layout of rows that Rank makes a TREC run of. A record with an
// error leaves nothing: a run has no place for it.
type Scored struct{}

// AppendScored appends the ids and the score.
func (Scored) AppendScored(dst []byte, r *Record, score float32) ([]byte, error) {
	value, err := json.Marshal(score)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(dst, "%s %s %s\n", r.QueryID, r.DocumentID, value), nil
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
