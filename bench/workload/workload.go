// Package workload reads the pairs that a benchmark scores.
package workload

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed" // the builtin pairs
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mlxrank/mlxrank/engine"
)

// Builtin names the pairs that come with the program: 32 queries with 100
// candidates each, from Debian package descriptions.
const Builtin = "builtin"

// DefaultSize is the default limit on the pairs read from a file.
const DefaultSize = 50_000

//go:embed data/pairs.jsonl.gz
var builtin []byte

// A Workload is a list of pairs.
type Workload struct {
	Name   string
	Pairs  []engine.Pair
	SHA256 string // of the texts: equal for equal workloads
}

// Open reads the first size pairs of a dataset; 0 stands for DefaultSize. The
// dataset is Builtin or a file. The file's extension names its format: .parquet
// (MS MARCO on the hub), .tsv (MS MARCO's top-1000 files) or .jsonl; the latter two
// also with .gz.
func Open(dataset string, size int) (*Workload, error) {
	if size == 0 {
		size = DefaultSize
	}
	name := filepath.Base(dataset)
	read := readFile
	if dataset == Builtin {
		read = func(_ string, size int) ([]engine.Pair, error) {
			return readCompressed(bytes.NewReader(builtin), jsonLine, size)
		}
	}
	pairs, err := read(dataset, size)
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %w", dataset, err)
	}
	if len(pairs) == 0 {
		return nil, fmt.Errorf("dataset %s has no pairs", dataset)
	}
	return &Workload{Name: name, Pairs: pairs, SHA256: hash(pairs)}, nil
}

func readFile(path string, size int) (pairs []engine.Pair, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	name, compressed := strings.CutSuffix(strings.ToLower(path), ".gz")
	var parse func([]byte) (engine.Pair, error)
	switch filepath.Ext(name) {
	case ".tsv":
		parse = tsvLine
	case ".jsonl":
		parse = jsonLine
	case ".parquet":
		if !compressed {
			return readParquet(file, info.Size(), size)
		}
	}
	switch {
	case parse == nil:
		return nil, errors.New("unknown extension; expected .tsv, .tsv.gz, .jsonl, .jsonl.gz or .parquet")
	case compressed:
		return readCompressed(file, parse, size)
	}
	return readLines(file, parse, size)
}

func readCompressed(r io.Reader, parse func([]byte) (engine.Pair, error), size int) ([]engine.Pair, error) {
	unzipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return readLines(unzipped, parse, size)
}

// withoutPath drops the path from an error, since the caller adds it.
func withoutPath(err error) error {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func hash(pairs []engine.Pair) string {
	h := sha256.New()
	for _, p := range pairs {
		// The lengths separate "ab", "c" from "a", "bc". Writing to a hash never fails.
		fmt.Fprintf(h, "%d %d %s%s", len(p.Query), len(p.Document), p.Query, p.Document) //nolint:errcheck
	}
	return hex.EncodeToString(h.Sum(nil))
}

// At returns the n pairs of request i. Consecutive requests use consecutive pairs
// and start over at the end.
func (w *Workload) At(i, n int) []engine.Pair {
	first := i * n % len(w.Pairs)
	if first+n <= len(w.Pairs) {
		return w.Pairs[first : first+n : first+n]
	}
	pairs := make([]engine.Pair, n)
	for k := range pairs {
		pairs[k] = w.Pairs[(first+k)%len(w.Pairs)]
	}
	return pairs
}
