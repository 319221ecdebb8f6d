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

// DefaultSize is how many pairs are taken of a file unless said otherwise.
const DefaultSize = 50_000

//go:embed data/pairs.jsonl.gz
var builtin []byte

// A Workload is pairs of texts.
type Workload struct {
	Name   string
	Pairs  []engine.Pair
	SHA256 string // of the texts: workloads of one hash are the same
}

// Open reads a dataset: Builtin, or a file. Of its pairs the first size are
// taken, 0 for the default. A file is known by its name: .parquet as the hub has
// MS MARCO, .tsv as MS MARCO's top-1000 files are, or .jsonl, the latter two
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
		return nil, fmt.Errorf("dataset %s holds no pair", dataset)
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
		return nil, errors.New("it is not a file")
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
		return nil, errors.New("its name must end in .tsv, .tsv.gz, .jsonl, .jsonl.gz or .parquet")
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

// withoutPath drops the path from an error that is reported with it anyway.
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
		// The lengths keep "ab", "c" from being "a", "bc". A hash never fails.
		fmt.Fprintf(h, "%d %d %s%s", len(p.Query), len(p.Document), p.Query, p.Document) //nolint:errcheck
	}
	return hex.EncodeToString(h.Sum(nil))
}

// At gives the n pairs of request i. Requests take their pairs one after
// another and begin again at the end.
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
