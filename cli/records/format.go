package records

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A Format says how pairs stand on the lines of a file.
type Format string

// The formats. TREC names texts by their ids, all others hold them.
const (
	Auto    Format = "auto"    // by the name of the file and its first line
	JSONL   Format = "jsonl"   // {"query": "...", "document": "...", ...}
	TSV     Format = "tsv"     // query, document
	MSMARCO Format = "msmarco" // qid, pid, query, passage
	TREC    Format = "trec"    // qid Q0 docid rank score tag
)

// detect tells the format of a file by its name and its first line, which is
// empty only if the file is. One column may be a score if scored.
func detect(name string, line []byte, scored bool) (Format, error) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	base := strings.ToLower(filepath.Base(name))
	ext := filepath.Ext(strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".zst"))
	switch {
	case ext == ".jsonl", ext == ".ndjson", len(line) == 0:
		return JSONL, nil
	case ext == ".trec", ext == ".run":
		return TREC, nil
	case ext != ".tsv" && bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")):
		return JSONL, nil
	case ext != ".tsv" && isRun(line):
		return TREC, nil
	}
	n := bytes.Count(line, []byte("\t")) + 1
	hint := ""
	for _, format := range []Format{TSV, MSMARCO} {
		switch want := len(columnsOf[format]); {
		case n == want, n == want+1 && scored:
			return format, nil
		case n == want+1:
			hint = "; if the last is a score, give --overwrite-score"
		}
	}
	return "", fmt.Errorf("%s: cannot tell the format: the first line has %s and begins with %q; "+
		"give --format jsonl (objects), tsv (query, document), msmarco (qid, pid, query, passage) or trec (a run)%s",
		name, plural(n, "column"), Abridge(line), hint)
}

// isRun reports whether a line is one of a TREC run.
func isRun(line []byte) bool {
	fields := bytes.Fields(line)
	return len(fields) == len(runColumns) && slices.Contains([]string{"Q0", "q0", "0"}, string(fields[1]))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
