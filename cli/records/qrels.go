package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// The columns of TREC qrels and of BEIR's. White space separates the first, tabs the
// others.
var (
	qrelsColumns     = []string{"qid", "0", "docid", "relevance"}
	beirQrelsColumns = []string{"query-id", "corpus-id", "score"}
)

// ReadQrels reads judgements: lines qid 0 docid relevance, as in TREC's qrels, or tabs
// between query-id, corpus-id and score, as in BEIR's, with or without a header row.
// The first line determines which. Errors report name and the line.
func ReadQrels(name string, r io.Reader) (measures.Qrels, error) {
	qrels, seen := make(measures.Qrels), make(idLines)
	split := splitQrels
	lines := NewLines(name, r)
	for first := true; ; {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if isBlank(line) {
			continue
		}
		if first {
			first = false
			if bytes.Count(line, []byte("\t")) == 2 || len(bytes.Fields(line)) == 3 {
				split = splitBEIRQrels
			}
			if isQrelsHeader(line) {
				continue
			}
		}
		fields, err := split(line)
		if err != nil {
			return nil, lines.Errorf("%w", err)
		}
		relevance, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, lines.Errorf("relevance %q is not a whole number", Abridge([]byte(fields[2])))
		}
		if err := seen.add(fields[0], fields[1], lines.number); err != nil {
			return nil, lines.Errorf("%w", err)
		}
		of := qrels[fields[0]]
		if of == nil {
			of = make(map[string]int)
			qrels[fields[0]] = of
		}
		of[fields[1]] = relevance
	}
	if len(qrels) == 0 {
		return nil, fmt.Errorf("%s has no judgements; expected lines %s, or %s with tabs between",
			name, strings.Join(qrelsColumns, " "), strings.Join(beirQrelsColumns, ", "))
	}
	return qrels, nil
}

// isQrelsHeader reports whether a first line of three columns names them.
func isQrelsHeader(line []byte) bool {
	fields := bytes.Fields(line)
	return len(fields) == 3 && !isInteger(fields[2]) && isHeader(bytes.Join(fields, []byte("\t")))
}

// splitQrels returns the query id, the document id and the relevance of a line.
func splitQrels(line []byte) ([]string, error) {
	fields := strings.Fields(string(line))
	switch {
	case len(fields) == len(runColumns):
		return nil, fmt.Errorf("%s, expected %d (%s); it looks like a run, not like qrels", plural(len(fields), "column"), len(qrelsColumns), strings.Join(qrelsColumns, " "))
	case len(fields) != len(qrelsColumns):
		return nil, fmt.Errorf("%s, expected %d (%s)", plural(len(fields), "column"), len(qrelsColumns), strings.Join(qrelsColumns, " "))
	}
	return []string{fields[0], fields[2], fields[3]}, nil
}

// splitBEIRQrels returns the three columns of a line. Its ids may contain spaces if
// tabs separate the columns.
func splitBEIRQrels(line []byte) ([]string, error) {
	fields := strings.Split(string(line), "\t")
	if len(fields) == 1 {
		fields = strings.Fields(fields[0])
	}
	if len(fields) != len(beirQrelsColumns) {
		return nil, fmt.Errorf("%s, expected %d (%s)", plural(len(fields), "column"), len(beirQrelsColumns), strings.Join(beirQrelsColumns, ", "))
	}
	for i := range fields {
		if fields[i] = strings.TrimSpace(fields[i]); fields[i] == "" {
			return nil, fmt.Errorf("column %s is empty", beirQrelsColumns[i])
		}
	}
	return fields, nil
}

// ReadRun reads a TREC run, qid Q0 docid rank score tag, or a run qid pid rank as MS
// MARCO's tools write it. The first line determines which. The rank of a TREC run is
// ignored, as in trec_eval. A run without scores gets minus the rank as its score.
func ReadRun(name string, r io.Reader) (measures.Run, error) {
	run, places := make(measures.Run), make(map[string][]int)
	lines := NewLines(name, r)
	for columns := 0; ; {
		line, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if isBlank(line) {
			continue
		}
		fields := bytes.Fields(line)
		if columns == 0 {
			columns = len(fields)
		}
		query, document, err := parseRunLine(fields, columns)
		if err != nil {
			return nil, lines.Errorf("%w", err)
		}
		run[query] = append(run[query], document)
		places[query] = append(places[query], lines.number)
	}
	if len(run) == 0 {
		return nil, fmt.Errorf("%s has no lines; expected %s, or %s", name, strings.Join(runColumns, " "), strings.Join(shortRunColumns, " "))
	}
	return run, checkRun(name, run, places)
}

// parseRunLine parses a line of a run whose first line has that many columns.
func parseRunLine(fields [][]byte, columns int) (query string, document measures.Retrieved, err error) {
	expected := runColumns
	if columns == len(shortRunColumns) {
		expected = shortRunColumns
	}
	if len(fields) != len(expected) {
		err = fmt.Errorf("%s, expected %d (%s)", plural(len(fields), "column"), len(expected), strings.Join(expected, " "))
		if len(fields) == len(qrelsColumns) {
			err = fmt.Errorf("%w; it looks like qrels, not like a run", err)
		}
		return "", document, err
	}
	if len(expected) == len(shortRunColumns) {
		rank, err := strconv.Atoi(string(fields[2]))
		if err != nil {
			return "", document, fmt.Errorf("rank %q is not a whole number", Abridge(fields[2]))
		}
		return string(fields[0]), measures.Retrieved{ID: string(fields[1]), Score: -float64(rank)}, nil
	}
	score, err := parseScore(fields[4])
	return string(fields[0]), measures.Retrieved{ID: string(fields[2]), Score: score}, err
}

// parseScore parses a score by which documents can be ordered.
func parseScore(text []byte) (float64, error) {
	score, err := strconv.ParseFloat(string(text), 64)
	if err != nil || math.IsNaN(score) || math.IsInf(score, 0) {
		return 0, fmt.Errorf("score %q is not a finite number", Abridge(text))
	}
	return score, nil
}

// checkRun rejects a document that a query has twice, as trec_eval does. places has
// the lines of the documents.
func checkRun(name string, run measures.Run, places map[string][]int) error {
	first, again, query, id := 0, 0, "", ""
	for q, documents := range run {
		order := make([]int, len(documents))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(documents[a].ID, documents[b].ID) })
		for i := 1; i < len(order); i++ {
			a, b := order[i-1], order[i]
			if documents[a].ID == documents[b].ID && (again == 0 || places[q][b] < again) {
				first, again, query, id = places[q][a], places[q][b], q, documents[a].ID
			}
		}
	}
	if again == 0 {
		return nil
	}
	return fmt.Errorf("%s: line %d: %w", name, again, errTwice(query, id, first))
}

// idLines maps a query id and a document id to the line that has them.
type idLines map[[2]string]int

// add returns an error if an earlier line has both ids.
func (l idLines) add(query, document string, line int) error {
	key := [2]string{query, document}
	if first, ok := l[key]; ok {
		return errTwice(query, document, first)
	}
	l[key] = line
	return nil
}

func errTwice(query, document string, first int) error {
	return fmt.Errorf("query %q and document %q are also in line %d; remove one of the lines",
		Abridge([]byte(query)), Abridge([]byte(document)), first)
}
