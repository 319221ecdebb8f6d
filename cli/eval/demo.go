package eval

import (
	"bytes"
	"embed"
	"fmt"

	"github.com/mlxrank/mlxrank/cli/records"
)

// demoFiles holds the collection of --demo.
//
//go:embed demo/corpus.jsonl demo/queries.jsonl demo/qrels.tsv demo/bm25.run
var demoFiles embed.FS

// The depths of --demo, and the maximum length, let it end within half a minute on two
// processors.
const (
	demoDepths = "5,10,20"
	demoLength = "128"
)

// readDemo reads the collection of --demo.
func (col *collection) readDemo() error {
	files := make(map[string]*bytes.Reader)
	for _, name := range []string{"corpus.jsonl", "queries.jsonl", "qrels.tsv", "bm25.run"} {
		data, err := demoFiles.ReadFile("demo/" + name)
		if err != nil {
			return err
		}
		files[name] = bytes.NewReader(data)
	}
	var err error
	options := records.Options{Format: records.TREC}
	if options.Queries, err = indexDemo("queries.jsonl", true, files); err != nil {
		return err
	}
	if options.Documents, err = indexDemo("corpus.jsonl", false, files); err != nil {
		return err
	}
	if col.qrels, err = records.ReadQrels("qrels.tsv", files["qrels.tsv"]); err != nil {
		return err
	}
	candidates, err := records.ReadCandidates("bm25.run", files["bm25.run"], options)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	col.first.name = "bm25.run"
	return col.take(candidates)
}

func indexDemo(name string, queries bool, files map[string]*bytes.Reader) (*records.Texts, error) {
	return records.IndexTexts(name, records.TextsOptions{Queries: queries}, files[name], files[name])
}
