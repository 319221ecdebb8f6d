package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
)

func rerankCommand(s Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "query", Usage: "rank by how well a document answers `TEXT` (required)"},
		&cli.StringFlag{Name: "documents", Usage: "read the documents from `FILE`, - for standard input"},
		&cli.IntFlag{Name: "top-n", DefaultText: "all", Usage: "print only the best `N`"},
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "rerank",
		Usage:     "rank documents for a query, best first",
		UsageText: "mlxrank rerank --query TEXT [flags] DOCUMENT...\nmlxrank rerank --query TEXT --documents FILE [flags]",
		Description: "Documents are the arguments, or the lines of a file. A line that begins with { is\n" +
			"a JSON object; its field \"document\", or else \"text\", is the document. Blank lines\n" +
			"are skipped. The table goes to standard output, the facts of the run to standard\n" +
			"error; --json prints both as one object, in which index counts from 0.\n\n" +
			examples(
				[2]string{"Rank two passages with the built-in model", `mlxrank rerank --model builtin --query "resize photos" "An image editor." "A mail reader."`},
				[2]string{"The best three lines of a file", `mlxrank rerank --model builtin --query "resize photos" --documents passages.txt --top-n 3`},
			),
		Flags:  append(flags, engineFlags(defaultModel)...),
		Action: func(c *cli.Context) error { return rerank(c, s) },
	}
}

func rerank(c *cli.Context, s Streams) (err error) {
	config, err := engineConfig(c, s.Err)
	if err != nil {
		return err
	}
	docs, err := rerankDocuments(c, s)
	if err != nil {
		return err
	}
	texts := make([]string, len(docs))
	for i, d := range docs {
		texts[i] = d.text
	}
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeEngine(c.Context, e, config.Logger)) }()
	ranking, err := e.Rerank(c.Context, c.String("query"), texts)
	if err != nil {
		return err
	}
	run := newFacts(e.Info())
	run.add(len(docs), &ranking.Result)
	items := ranking.Items
	if n := c.Int("top-n"); c.IsSet("top-n") && n < len(items) {
		items = items[:n]
	}
	if c.Bool("json") {
		return printRankingJSON(s, c.String("query"), items, docs, run)
	}
	if err := printRanking(s, items, docs); err != nil {
		return err
	}
	return run.write(s.Err)
}

// rerankDocuments checks the flags of rerank's own and reads the documents.
func rerankDocuments(c *cli.Context, s Streams) ([]document, error) {
	args := c.Args().Slice()
	switch {
	case !c.IsSet("query"):
		return nil, usagef("--query is missing (see mlxrank rerank --help)")
	case c.String("query") == "":
		return nil, usagef("--query is empty")
	case c.IsSet("top-n") && c.Int("top-n") < 1:
		return nil, usagef("--top-n %d is not a positive number", c.Int("top-n"))
	case c.IsSet("documents") && len(args) > 0:
		return nil, usagef("documents are given both with --documents and as arguments (%q); choose one", args[0])
	case c.IsSet("documents"):
		return readDocuments(c.Context, c.String("documents"), s.In)
	case len(args) == 0:
		return nil, usagef("no documents; give them as arguments, or a file with --documents FILE (- for standard input)")
	}
	return arguments(args)
}

// printRanking prints the ranking as a table. Documents of a file are named by
// their line, arguments by their place, both from 1.
func printRanking(s Streams, items []engine.Ranked, docs []document) error {
	t := table{header: []string{"rank", "score", "line", "document"}}
	if docs[0].line == 0 {
		t.header[2] = "arg"
	}
	for i, item := range items {
		doc := docs[item.Index]
		place := doc.line
		if place == 0 {
			place = item.Index + 1
		}
		t.add(strconv.Itoa(i+1), fmt.Sprintf("%.4f", item.Score), strconv.Itoa(place), snippet(doc.text))
	}
	return t.write(s.Out, widthOf(s.Out))
}

type rankedJSON struct {
	Rank     int     `json:"rank"`
	Index    int     `json:"index"`
	Line     int     `json:"line,omitempty"`
	Score    float32 `json:"score"`
	Logit    float32 `json:"logit"`
	Document string  `json:"document"`
}

func printRankingJSON(s Streams, query string, items []engine.Ranked, docs []document, run *facts) error {
	results := make([]rankedJSON, len(items))
	for i, item := range items {
		doc := docs[item.Index]
		results[i] = rankedJSON{i + 1, item.Index, doc.line, item.Score, item.Logit, doc.text}
	}
	encoder := json.NewEncoder(s.Out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Query   string       `json:"query"`
		Results []rankedJSON `json:"results"`
		Run     *facts       `json:"run"`
	}{query, results, run})
}
