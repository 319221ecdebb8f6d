package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// jsonl is the format with one JSON object per line.
type jsonl struct {
	score  ScorePolicy
	ids    bool // requires ids
	fields Fields
}

func (jsonl) blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }

func (j jsonl) parse(r *Record) error {
	object, err := ParseObject(r.Text)
	if err != nil {
		return fmt.Errorf(`%w; each line must be an object such as {"query": "...", "document": "..."}`, err)
	}
	if _, ok := object["score"]; ok && j.score == RefuseScore {
		return errors.New(`field "score" exists already; rename or remove it, or give --overwrite-score`)
	}
	return j.fill(r, object)
}

// fill moves the texts and ids of an object into a record.
func (j jsonl) fill(r *Record, object Object) (err error) {
	if r.Query, err = j.fields.query(object); err != nil {
		return err
	}
	if r.Document, r.Source, err = j.fields.document(object); err != nil || !j.ids {
		return err
	}
	if r.QueryID, err = j.fields.queryID(object); err != nil {
		return err
	}
	if r.DocumentID, err = j.fields.documentID(object); err != nil {
		return err
	}
	if r.QueryID == "" {
		return errors.New(`field "query_id" is missing`)
	}
	if r.DocumentID == "" {
		return errors.New(`field "document_id" is missing`)
	}
	return nil
}

// AppendHeader appends nothing, since objects have no header.
func (jsonl) AppendHeader(dst []byte, _ *Record) []byte { return dst }

// AppendScored appends the object with its score.
func (j jsonl) AppendScored(dst []byte, r *Record, v Value) ([]byte, error) {
	value, err := json.Marshal(v.Score)
	if err != nil {
		return nil, err
	}
	object, err := ParseObject(r.Text)
	if err != nil {
		return nil, err
	}
	line, more := r.Text, ""
	if _, ok := object["score"]; ok && j.score == ReplaceScore {
		if line, err = replaceScore(nil, r.Text, value); err != nil {
			return nil, err
		}
	} else {
		more = fmt.Sprintf(`, "score": %s`, value)
	}
	if _, ok := object["empty"]; !ok && v.Empty {
		more += `, "empty": true`
	}
	return append(appendFields(dst, line, more), '\n'), nil
}

// AppendFailed appends an object with the error and the line.
func (jsonl) AppendFailed(dst []byte, r *Record) ([]byte, error) {
	line, err := json.Marshal(struct {
		Error string `json:"error"`
		Line  int    `json:"line"`
	}{r.Err.Error(), r.Line})
	return append(append(dst, line...), '\n'), err
}
