package records

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Format is a file format of pairs or documents.
type Format string

// The formats. A file of TREC has the ids of texts; the others have the texts.
const (
	Auto    Format = "auto"    // by the name of the file and its first line
	CSV     Format = "csv"     // a header row names the columns
	Parquet Format = "parquet" // as objects; only for NewParquetReader and the like
	JSONL   Format = "jsonl"   // {"query": "...", "document": "...", ...}
	TSV     Format = "tsv"     // query, document; documents: id, text or id, url, title, body
	MSMARCO Format = "msmarco" // qid, pid, query, passage
	TREC    Format = "trec"    // qid Q0 docid rank score tag, or qid pid rank
	LinesOf Format = "lines"   // documents: one per line
	JSON    Format = "json"    // documents: an array
)

// extension returns the extension of a file's name without .gz and .zst, in lower case.
func extension(name string) string {
	base := strings.ToLower(filepath.Base(name))
	return filepath.Ext(strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".zst"))
}

// FormatOfName returns the format that the extension of a file's name stands for, or "".
func FormatOfName(name string) Format {
	switch extension(name) {
	case ".jsonl", ".ndjson":
		return JSONL
	case ".csv":
		return CSV
	case ".parquet":
		return Parquet
	case ".trec", ".run":
		return TREC
	}
	return ""
}

// detect finds the format of a file of pairs by its name and its first line, which is
// empty only in an empty file. whole is false if line is only its beginning.
func detect(name string, line []byte, whole bool, o Options) (Format, error) {
	ext := extension(name)
	switch {
	case ext == ".csv":
		return CSV, nil
	case ext == ".jsonl", ext == ".ndjson", len(line) == 0:
		return JSONL, nil
	case ext == ".trec", ext == ".run":
		return TREC, nil
	case ext == ".tsv" && o.Fields.any():
		return TSV, nil
	}
	n := bytes.Count(line, []byte("\t")) + 1
	byColumns, hint := formatOfColumns(n, o.Score != RefuseScore)
	texts := o.Queries != nil || o.Documents != nil // only a run needs texts
	trimmed := bytes.TrimSpace(line)
	switch {
	case bytes.HasPrefix(trimmed, []byte("{")) && ext != ".tsv":
		if byColumns != "" && whole && !json.Valid(line) {
			return byColumns, nil // text that begins with a brace
		}
		return JSONL, nil
	case bytes.HasPrefix(trimmed, []byte("[")) && byColumns == "":
		hint = "; write a JSON array as one object per line, for example with jq -c '.[]'"
	case isRun(line) && (texts || ext != ".tsv" || byColumns == ""), isShortRun(line) && texts:
		return TREC, nil
	case isShortRun(line) && (byColumns == "" || n == len(shortRunColumns) && areIDs(line)):
		byColumns, hint = "", "; a run (qid pid rank) needs --queries and --documents"
	case isQrels(line) && (byColumns == "" || byColumns == MSMARCO):
		return "", fmt.Errorf("%s: the first line, %q, looks like TREC qrels, which are judgements, not pairs; if it is a pair, give --format", name, Abridge(line))
	}
	if byColumns != "" {
		return byColumns, nil
	}
	return "", fmt.Errorf("%s: cannot detect the format: the first line has %s and begins with %q; "+
		"give --format jsonl (objects), tsv (query, document), msmarco (qid, pid, query, passage) or trec (a run)%s",
		name, plural(n, "column"), Abridge(line), hint)
}

// formatOfColumns returns the format with n columns, one of which may be a score if
// scored, or "" and a hint.
func formatOfColumns(n int, scored bool) (_ Format, hint string) {
	for _, format := range []Format{TSV, MSMARCO} {
		switch want := len(columnsOf[format]); {
		case n == want, n == want+1 && scored:
			return format, ""
		case n == want+1:
			hint = "; if the last is a score, give --overwrite-score"
		}
	}
	return "", hint
}

var qZero = []string{"Q0", "q0", "0"}

// isRun reports whether line belongs to a TREC run.
func isRun(line []byte) bool {
	fields := bytes.Fields(line)
	return len(fields) == len(runColumns) && slices.Contains(qZero, string(fields[1]))
}

// isShortRun reports whether line belongs to a run in MS MARCO's layout.
func isShortRun(line []byte) bool {
	fields := bytes.Fields(line)
	return len(fields) == len(shortRunColumns) && isInteger(fields[2])
}

// areIDs reports whether line has only integers, which are ids, not texts.
func areIDs(line []byte) bool {
	return !slices.ContainsFunc(bytes.Fields(line), func(field []byte) bool { return !isInteger(field) })
}

// isQrels reports whether line belongs to TREC qrels: qid 0 docid relevance.
func isQrels(line []byte) bool {
	fields := bytes.Fields(line)
	return len(fields) == 4 && slices.Contains(qZero, string(fields[1])) && isInteger(fields[3])
}

func isInteger(field []byte) bool {
	_, err := strconv.Atoi(string(field))
	return err == nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
