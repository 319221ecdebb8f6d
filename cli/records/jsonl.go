package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// jsonl is the format of one JSON object a line.
type jsonl struct {
	score ScorePolicy
	ids   bool // the objects must have ids
}

func (jsonl) blank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }

func (j jsonl) parse(r *Record) error {
	object, err := ParseObject(r.Text)
	if err != nil {
		return fmt.Errorf(`%w; each line must be an object such as {"query": "...", "document": "..."}`, err)
	}
	if _, ok := object["score"]; ok && j.score == RefuseScore {
		return errors.New(`field "score" is there already; rename or remove it, or give --overwrite-score`)
	}
	if r.Query, err = object.Text("query"); err != nil {
		return err
	}
	if r.Document, err = object.Text("document"); err != nil || !j.ids {
		return err
	}
	if r.QueryID, err = object.id("query_id"); err != nil {
		return err
	}
	r.DocumentID, err = object.id("document_id")
	return err
}

func (j jsonl) AppendScored(dst []byte, r *Record, score float32) ([]byte, error) {
	value, err := json.Marshal(score)
	if err != nil {
		return nil, err
	}
	if j.score == ReplaceScore {
		object, err := ParseObject(r.Text)
		if err != nil {
			return nil, err
		}
		if _, ok := object["score"]; ok {
			dst, err = replaceScore(dst, r.Text, value)
			return append(dst, '\n'), err
		}
	}
	return append(appendScore(dst, r.Text, value), '\n'), nil
}

func (jsonl) AppendFailed(dst []byte, r *Record) ([]byte, error) {
	line, err := json.Marshal(struct {
		Error string `json:"error"`
		Line  int    `json:"line"`
	}{r.Err.Error(), r.Line})
	return append(append(dst, line...), '\n'), err
}
