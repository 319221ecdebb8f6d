package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/mlxrank/mlxrank/engine"
)

// A window bounds how much of an input is in memory at once. It is still large
// enough for the engine to group pairs of like length.
const (
	windowPairs = 1024
	windowBytes = 4 << 20
)

// window is a stretch of a JSONL input: the pairs and the lines they stand on.
type window struct {
	pairs []engine.Pair
	lines [][]byte
}

// pairReader reads query-document pairs from JSONL.
type pairReader struct {
	lines *lines
	// reserved is a field that the lines must not have, "" for none.
	reserved string
}

// next returns the next window. It is empty at the end of the input.
func (r *pairReader) next() (window, error) {
	var w window
	for size := 0; len(w.pairs) < windowPairs && size < windowBytes; {
		line, err := r.lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return window{}, err
		}
		pair, err := parsePair(line, r.reserved)
		if err != nil {
			return window{}, r.lines.errorf("%w", err)
		}
		w.pairs, w.lines = append(w.pairs, pair), append(w.lines, line)
		size += len(line)
	}
	return w, nil
}

func parsePair(line []byte, reserved string) (engine.Pair, error) {
	object, err := parseObject(line)
	if err != nil {
		return engine.Pair{}, fmt.Errorf(`%w; each line must be an object such as {"query": "...", "document": "..."}`, err)
	}
	if _, ok := object[reserved]; ok && reserved != "" {
		return engine.Pair{}, fmt.Errorf("field %q is there already; rename or remove it", reserved)
	}
	query, err := object.text("query")
	if err != nil {
		return engine.Pair{}, err
	}
	document, err := object.text("document")
	if err != nil {
		return engine.Pair{}, err
	}
	return engine.Pair{Query: query, Document: document}, nil
}
