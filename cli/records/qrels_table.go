package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// The names of columns of tables with judgements or runs.
var (
	judgedQueries   = append(slices.Clone(queryOwnIDs), "query-id", "queryid")
	judgedDocuments = append(slices.Clone(documentOwnIDs), "corpus-id", "corpus_id", "docno", "doc")
	judgements      = append(slices.Clone(labelFields), "rel", "score")
)

// Qrels reads the rows of a table as judgements: an id of a query, an id of a document
// and a relevance, in columns with usual names.
func (r *Reader) Qrels() (measures.Qrels, error) {
	qrels := make(measures.Qrels)
	err := r.pairs(judgements, func(query, document string, value json.RawMessage) error {
		relevance, err := parseLabel(value)
		if err != nil || relevance == nil {
			return errors.Join(err, missingLabel(relevance))
		}
		if qrels[query] == nil {
			qrels[query] = make(map[string]int)
		}
		qrels[query][document] = *relevance
		return nil
	})
	if err == nil && len(qrels) == 0 {
		err = fmt.Errorf("%s has no judgements", r.name)
	}
	return qrels, err
}

func missingLabel(label *int) error {
	if label == nil {
		return errors.New("the relevance is missing; expected a whole number")
	}
	return nil
}

// Run reads the rows of a table as a run: an id of a query, an id of a document and a
// score, in columns with usual names.
func (r *Reader) Run() (measures.Run, error) {
	run := make(measures.Run)
	err := r.pairs([]string{"score"}, func(query, document string, value json.RawMessage) error {
		score, err := parseScore(bytes.Trim(value, `"`))
		run[query] = append(run[query], measures.Retrieved{ID: document, Score: score})
		return err
	})
	if err == nil && len(run) == 0 {
		err = fmt.Errorf("%s has no lines", r.name)
	}
	return run, err
}

// pairs calls add for the ids and the value of each row.
func (r *Reader) pairs(values []string, add func(query, document string, value json.RawMessage) error) error {
	seen := make(idLines)
	for {
		row, err := r.source.read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		record := Record{Line: r.source.line(), Text: row}
		if err == nil {
			row, err = r.objectLine(row)
		}
		if err == nil && row == nil {
			continue
		}
		if err == nil {
			err = CheckText(row)
		}
		if err == nil {
			err = addPair(row, values, seen, record.Line, add)
		}
		if err != nil {
			return r.Errorf(&record, "%w", err)
		}
	}
}

func addPair(row []byte, values []string, seen idLines, line int, add func(query, document string, value json.RawMessage) error) error {
	object, err := ParseObject(row)
	if err != nil {
		return err
	}
	var ids [2]string
	for i, names := range [][]string{judgedQueries, judgedDocuments} {
		name := object.has(names)
		if name == "" {
			return fmt.Errorf("no column %s; found %s", strings.Join(names, ", "), object.fieldNames())
		}
		if ids[i], err = object.id(name); err != nil {
			return err
		}
		if ids[i] == "" {
			return fmt.Errorf("column %q is empty", name)
		}
	}
	value := object.has(values)
	if value == "" {
		return fmt.Errorf("no column %s; found %s", strings.Join(values, ", "), object.fieldNames())
	}
	if err := seen.add(ids[0], ids[1], line); err != nil {
		return err
	}
	return add(ids[0], ids[1], object[value])
}
