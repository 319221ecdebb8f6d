package workload

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/mlxrank/mlxrank/engine"
)

// maxLine bounds the memory of a line.
const maxLine = 16 << 20

// readLines reads up to size pairs, one per line, and skips blank lines.
func readLines(r io.Reader, parse func([]byte) (engine.Pair, error), size int) ([]engine.Pair, error) {
	var pairs []engine.Pair
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	number := 0
	for len(pairs) < size && lines.Scan() {
		number++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		pair, err := parse(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		pairs = append(pairs, pair)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("after line %d: %w", number, err)
	}
	return pairs, nil
}

// jsonLine parses an object with the strings "query" and "document".
func jsonLine(line []byte) (engine.Pair, error) {
	var fields struct{ Query, Document *string }
	if err := json.Unmarshal(line, &fields); err != nil {
		return engine.Pair{}, err
	}
	if fields.Query == nil || fields.Document == nil {
		return engine.Pair{}, errors.New(`expected an object with the strings "query" and "document"`)
	}
	return engine.Pair{Query: *fields.Query, Document: *fields.Document}, nil
}

// tsvLine parses a line of MS MARCO's top-1000 files: query id, passage id, query,
// passage.
func tsvLine(line []byte) (engine.Pair, error) {
	fields := bytes.Split(bytes.TrimSuffix(line, []byte("\r")), []byte("\t"))
	if len(fields) != 4 {
		return engine.Pair{}, fmt.Errorf("found %d fields, expected 4 separated by tabs: query id, passage id, query, passage", len(fields))
	}
	if len(fields[2]) == 0 || len(fields[3]) == 0 {
		return engine.Pair{}, errors.New("the query or the passage is empty")
	}
	return engine.Pair{Query: string(fields[2]), Document: string(fields[3])}, nil
}
