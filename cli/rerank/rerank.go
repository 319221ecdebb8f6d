// Package rerank implements the command rerank.
package rerank

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/weights"
)

// Command returns the command rerank.
func Command(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "query", Usage: "query `TEXT`, - for one line of standard input (required)"},
		&cli.StringFlag{Name: "documents", Usage: "`FILE` of documents, - for standard input"},
		&cli.StringFlag{Name: "files", Usage: "file, folder or `PATTERN` of the files to rank; more as arguments"},
		documentFormatChoice.Flag(),
		input.HeaderFlag(),
		&cli.IntFlag{Name: "top-n", DefaultText: "all", Usage: "max results `N`"},
		&cli.Float64Flag{Name: "threshold", DefaultText: "none", Usage: "lowest `SCORE` to print"},
		command.LongFlag(),
		command.CalibrationFlag(),
		command.CacheFlag(),
		command.ProfileFlag(),
		&cli.BoolFlag{Name: "explain", DisableDefaultText: true, Usage: "show the best sentence of each printed document"},
		command.JSONFlag(), command.QuietFlag(),
	}
	flags = append(flags, input.DocumentFieldFlags()...)
	return &cli.Command{
		Name:      "rerank",
		Usage:     "rank documents for a query, best first",
		UsageText: "mlxrank rerank --query TEXT [flags] DOCUMENT...\nmlxrank rerank --query TEXT --documents FILE [flags]\nmlxrank rerank --query TEXT --files PATTERN [flags] [PATTERN...]",
		Description: "Documents are the arguments, or come from a file, by --format:\n" +
			"  lines  one document per line\n" +
			"  jsonl  one JSON object per line; the document is its field \"document\", or else\n" +
			"         \"text\" with \"title\" before it\n" +
			"  json   an array of such objects, or of strings\n" +
			"  tsv    id<TAB>text, or id<TAB>url<TAB>title<TAB>body\n" +
			"  csv    a header row names the columns, which are used like the fields of jsonl\n" +
			"  parquet  columns as in csv\n" +
			"--fields title,body joins fields or columns for the document; \"{title}: {body}\" writes\n" +
			"text between them. With --fields or --id-field, tsv has a header row too.\n" +
			"auto goes by the name of the file and its first line, and reports what it chose. It\n" +
			"refuses a file, or warns, if the format is not clear. Blank lines are skipped and\n" +
			"counted. " + input.FormatsPage + "\n\n" +
			"--files ranks whole files: a file, all files in a folder, or a pattern in which **\n" +
			"stands for any folders. Text is taken from Markdown and HTML; other files are text as\n" +
			"they are. Files of more than a passage are ranked by their best passage, unless --long\n" +
			"says otherwise. Hidden files are not searched, links to folders not followed; files\n" +
			"that are not UTF-8 text, unreadable, empty or larger than 16 MiB are left out, with a\n" +
			"warning.\n\n" +
			"The table goes to standard output, the summary of the run to standard error. --json\n" +
			"prints both as one object: index counts from 0, start and end are bytes, and fields\n" +
			"has the members of the document's object except its id and text. An empty document\n" +
			"is scored like others and marked.\n\n" +
			"Arguments are refused if all of them name files: rerank would rank the names and not\n" +
			"the contents of the files.\n\n" +
			"A document longer than the model takes is truncated, or, with --long passages,\n" +
			"scored in passages that overlap by a quarter; the best passage counts and is shown.\n\n" +
			"--explain picks the sentence from the text that the model has read completely: the\n" +
			"best passage, or the part that was not truncated.\n\n" +
			command.SummaryHelp +
			command.Examples(
				[2]string{"Rank two passages with the built-in model", `mlxrank rerank --model builtin --query "resize photos" "An image editor." "A mail reader."`},
				[2]string{"Print the three best lines of a file, with their best sentences", `mlxrank rerank --model builtin --query "resize photos" --documents passages.txt --top-n 3 --explain`},
				[2]string{"Keep documents that are probably relevant, by a calibration of mlxrank eval", `mlxrank rerank --calibration calibration.json --threshold 0.5 --query "resize photos" --documents passages.txt`},
				[2]string{"Find the best passages of all Markdown files below a folder", `mlxrank rerank --model builtin --query "resize photos" --files 'docs/**/*.md' --top-n 5`},
				[2]string{"Rank again without computing what an earlier run has scored", `mlxrank rerank --cache ~/.cache/mlxrank-scores --query "resize photos" --documents passages.txt`},
				[2]string{"Rank the rows of a table with named columns", `mlxrank rerank --model builtin --query "resize photos" --documents apps.csv --fields name,summary --id-field package`},
				[2]string{"Rank long documents of a JSON array, with a lowest score", `mlxrank rerank --model builtin --query "resize photos" --documents pages.json --long passages --threshold 0.5`},
			),
		Flags:  append(flags, command.EngineFlags(weights.Default)...),
		Action: command.Profiled(func(c *cli.Context) error { return rerank(c, s) }),
	}
}

func rerank(c *cli.Context, s command.Streams) (err error) {
	config, err := command.EngineConfig(c, s.Err)
	if err != nil {
		return err
	}
	if err := command.SetCalibration(c, &config); err != nil {
		return err
	}
	options, err := rerankOptions(c)
	if err != nil {
		return err
	}
	notices := command.NewNotices(c, s.Err, config.Logger)
	docs, err := rerankDocuments(c, s, notices)
	if err != nil {
		return err
	}
	query := c.String("query")
	if query == "-" {
		if query, err = readQuery(c.Context, s.In); err != nil {
			return err
		}
	}
	closeCache, err := command.SetCache(c, &config, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCache()) }()
	e, err := engine.Open(c.Context, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(c.Context, e, config.Logger)) }()
	docs.warn(config.Logger)
	if docs.HeaderLike {
		config.Logger.Warn().Msg(input.HeaderWarning)
	}
	if docs.ObjectLine > 0 {
		config.Logger.Warn().Int("line", docs.ObjectLine).Msg("a line that looks like a JSON object is ranked as text, since the first line is text; to choose, give --format lines or jsonl")
	}
	texts, empty := make([]string, len(docs.List)), 0
	for i, document := range docs.List {
		texts[i] = document.Text
		if engine.IsEmpty(document.Text) {
			empty++
		}
	}
	bar := notices.Progress("ranking", "pairs", len(texts))
	defer bar.End()
	options.Progress = bar.Set
	ranking, err := e.Rerank(c.Context, query, texts, options)
	if err != nil {
		return docs.locate(err)
	}
	bar.End()
	run := output.NewSummary(e.Info())
	run.Add(ranking.Pairs, &ranking.Result)
	run.Format, run.Basis, run.Fields = string(docs.Format), docs.Basis, docs.Sources()
	run.Empty, run.Blank = empty, docs.Blank
	if docs.kind == "file" {
		run.Fields = "the text of each file"
	}
	if c.Bool("json") {
		return printRankingJSON(s, query, ranking.Items, docs, run)
	}
	if err := printRanking(s, ranking.Items, docs); err != nil {
		return err
	}
	notices.Summary(run)
	return nil
}

// rerankOptions checks and returns the options of the ranking.
func rerankOptions(c *cli.Context) (engine.RerankOptions, error) {
	var options engine.RerankOptions
	if err := documentFormatChoice.Check(c, "--format"); err != nil {
		return options, err
	}
	if c.IsSet("top-n") && c.Int("top-n") < 1 {
		return options, command.Usagef("--top-n %d is too small; expected at least 1", c.Int("top-n"))
	}
	var err error
	if options.Long, err = command.LongMode(c); err != nil {
		return options, err
	}
	if c.IsSet("files") && !c.IsSet("long") {
		options.Long = engine.Passages
	}
	options.TopN = c.Int("top-n")
	options.Explain = c.Bool("explain")
	if c.IsSet("threshold") {
		threshold := c.Float64("threshold")
		if math.IsNaN(threshold) {
			return options, command.Usagef("--threshold NaN is not a number; expected a score")
		}
		options.Threshold = &threshold
	}
	return options, nil
}

// rerankDocuments checks the flags that give the query and the documents, and reads
// the documents.
func rerankDocuments(c *cli.Context, s command.Streams, notices command.Notices) (documents, error) {
	args := c.Args().Slice()
	switch {
	case c.String("query") == "-" && c.String("documents") == "-":
		return documents{}, command.Usagef("--query - and --documents - both read standard input; give one of them in another way")
	case !c.IsSet("query"):
		return documents{}, command.Usagef("--query is missing (see mlxrank rerank --help)")
	case strings.TrimSpace(c.String("query")) == "":
		return documents{}, command.Usagef("--query is empty; give the text of the query")
	case c.IsSet("documents") && c.IsSet("files"):
		return documents{}, command.Usagef("--documents and --files both give documents; choose one")
	case c.IsSet("documents") && len(args) > 0:
		return documents{}, command.Usagef("documents are given both with --documents and as arguments (%q); choose one", args[0])
	case !utf8.ValidString(c.String("query")):
		return documents{}, command.Usagef("--query: %v", records.CheckText([]byte(c.String("query"))))
	case c.IsSet("documents"):
		fields, err := input.Fields(c)
		if err != nil {
			return documents{}, err
		}
		return readDocuments(c.Context, c.String("documents"), s.In, records.Format(c.String("format")), input.HeaderPolicy(c), fields)
	case c.IsSet("format"), c.IsSet("header"), c.IsSet("fields"), c.IsSet("id-field"):
		return documents{}, command.Usagef("--format, --header, --fields and --id-field need --documents FILE")
	case c.IsSet("files"):
		return readFiles(c.Context, append([]string{c.String("files")}, args...), notices)
	case len(args) == 0:
		return documents{}, command.Usagef("no documents; give them as arguments, or a file with --documents FILE (- for standard input)")
	}
	if err := refuseFileNames(args); err != nil {
		return documents{}, err
	}
	return arguments(args)
}

// printRanking prints the ranking as a table. A document that was scored in passages
// is shown by its best one. Its best sentence, if any, has a line of its own below.
func printRanking(s command.Streams, items []engine.Ranked, docs documents) error {
	header := []string{"rank", "score", docs.kind}
	ids := docs.kind != "file" && slices.ContainsFunc(docs.List, func(d records.Document) bool { return d.ID != "" })
	if ids {
		header = append(header, "id")
	}
	t := output.Table{Header: append(header, "document")}
	for i, item := range items {
		document := docs.List[item.Index]
		cells := []string{strconv.Itoa(i + 1), fmt.Sprintf("%.4f", item.Score), strconv.Itoa(document.Place)}
		if docs.kind == "file" {
			cells[2] = output.Display.TruncatePrefix(output.Snippet(document.ID), maxPathWidth, "…")
		}
		if ids {
			cells = append(cells, output.Display.Truncate(output.Snippet(document.ID), maxIDWidth, "…"))
		}
		t.Add(append(cells, rankedText(item, document.Text))...)
		if b := item.Best; b != nil {
			t.Note(fmt.Sprintf("%.4f  %s", b.Score, output.Snippet(document.Text[b.Start:b.End])))
		}
	}
	return t.Write(s.Out, output.Width(s.Out))
}

// The widths at which the table cuts the ends of ids and the beginnings of paths.
const (
	maxIDWidth   = 32
	maxPathWidth = 48
)

// rankedText returns what the table shows of a document.
func rankedText(item engine.Ranked, text string) string {
	if engine.IsEmpty(text) {
		return "(empty)"
	}
	if p := item.Passage; p != nil {
		return fmt.Sprintf("[%d/%d] %s", p.Index+1, p.Count, output.Snippet(text[p.Start:p.End]))
	}
	return output.Snippet(text)
}

type rankedJSON struct {
	Rank     int            `json:"rank"`
	Index    int            `json:"index"`
	Line     int            `json:"line,omitempty"`
	Row      int            `json:"row,omitempty"`  // of Parquet, from 1
	Path     string         `json:"path,omitempty"` // of a file
	ID       string         `json:"id,omitempty"`
	Score    float32        `json:"score"`
	Logit    float32        `json:"logit"`
	Empty    bool           `json:"empty,omitempty"` // the document has no text
	Passage  *partJSON      `json:"passage,omitempty"`
	Sentence *partJSON      `json:"sentence,omitempty"`
	Document string         `json:"document"`
	Fields   records.Object `json:"fields,omitempty"`
}

// partJSON describes the best passage or the best sentence of a document.
type partJSON struct {
	Index int     `json:"index"`
	Count int     `json:"count"`
	Start int     `json:"start"`
	End   int     `json:"end"`
	Score float32 `json:"score"`
	Logit float32 `json:"logit"`
	Text  string  `json:"text"`
}

func newPartJSON(p *engine.Part, document string) *partJSON {
	if p == nil {
		return nil
	}
	return &partJSON{p.Index, p.Count, p.Start, p.End, p.Score, p.Logit, document[p.Start:p.End]}
}

func printRankingJSON(s command.Streams, query string, items []engine.Ranked, docs documents, run *output.Summary) error {
	results := make([]rankedJSON, len(items))
	for i, item := range items {
		document := docs.List[item.Index]
		text := document.Text
		results[i] = rankedJSON{
			Rank: i + 1, Index: item.Index, ID: document.ID, Score: item.Score, Logit: item.Logit, Document: text, Fields: document.Fields,
			Empty: engine.IsEmpty(text), Passage: newPartJSON(item.Passage, text), Sentence: newPartJSON(item.Best, text),
		}
		switch docs.kind {
		case "line":
			results[i].Line = document.Place
		case "row":
			results[i].Row = document.Place
		case "file":
			results[i].Path, results[i].ID = document.ID, ""
		}
	}
	return output.PrintJSON(s.Out, struct {
		Query   string          `json:"query"`
		Results []rankedJSON    `json:"results"`
		Run     *output.Summary `json:"run"`
	}{query, results, run})
}
