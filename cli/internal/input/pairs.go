package input

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/records"
)

// HeaderPolicy returns the policy that --header selects.
func HeaderPolicy(c *cli.Context) records.HeaderPolicy {
	switch {
	case !c.IsSet("header"):
		return records.GuessHeader
	case c.Bool("header"):
		return records.SkipHeader
	}
	return records.NoHeader
}

// HeaderFlag returns the flag --header.
func HeaderFlag() cli.Flag {
	return &cli.BoolFlag{Name: "header", DisableDefaultText: true,
		Usage: "skip the first row of tab-separated columns; --header=false to score it without a warning"}
}

// HeaderWarning reports a first row that looks like a header.
const HeaderWarning = "the first row looks like the names of columns and is scored; give --header to skip it, or --header=false"

var formatChoice = command.Choice{Name: "format", Usage: "input `FORMAT`", Def: "auto", Values: []string{"auto", "jsonl", "tsv", "msmarco", "trec", "csv", "parquet"}}

// FormatsPage refers to the description of the formats.
const FormatsPage = "docs/user/formats.md has every rule."

// FormatsHelp describes the formats of pairs.
const FormatsHelp = "--format selects the format of the input's lines:\n" +
	"  jsonl    a JSON object with \"query\" and \"document\"; instead of \"document\", it may have\n" +
	"           \"text\" and an optional \"title\", which goes before the text\n" +
	"  tsv      query<TAB>document\n" +
	"  msmarco  qid<TAB>pid<TAB>query<TAB>passage, as in MS MARCO's top-1000 files\n" +
	"  csv      a header row names the columns, which are used like the fields of jsonl\n" +
	"  parquet  columns as in csv\n" +
	"  trec     a TREC run (qid Q0 docid rank score tag, or qid pid rank); --queries and\n" +
	"           --documents name the files with its texts, whose lines are id<TAB>text,\n" +
	"           id<TAB>url<TAB>title<TAB>body, or objects as in BEIR's queries and corpora,\n" +
	"           or tables; queries may also be TREC topics, of which the title is the query\n" +
	"--fields title,body joins fields or columns for the document; \"{title}: {body}\" writes\n" +
	"text between them. --query-fields, --id-field and --query-id-field name the others, such\n" +
	"as title,desc of a TREC topic. With one of these flags, tsv has a header row too.\n" +
	"auto detects the format by the file's name and its first line. Files may be compressed\n" +
	"with gzip or zstd. Blank lines and byte order marks are skipped. Bytes that are not\n" +
	"UTF-8 are an error. " + FormatsPage + "\n\n"

// PairFlags returns the flags of every command that reads pairs.
func PairFlags() []cli.Flag {
	return append([]cli.Flag{&cli.StringFlag{Name: "input", Usage: "`FILE` of pairs, - for standard input (required)"}}, TextFlags()...)
}

// TextFlags returns the flags that describe a file of pairs or candidates.
func TextFlags() []cli.Flag {
	return append([]cli.Flag{
		formatChoice.Flag(),
		HeaderFlag(),
		&cli.StringFlag{Name: "queries", Usage: "`FILE` with the queries of a TREC run"},
		&cli.StringFlag{Name: "documents", Usage: "`FILE` with the documents of a TREC run"},
		&cli.StringFlag{Name: "query-fields", Usage: "`NAMES` of the fields or columns that make a query"},
		&cli.StringFlag{Name: "query-id-field", Usage: "`NAME` of the field or column with the query's id"},
	}, DocumentFieldFlags()...)
}

// DocumentFieldFlags returns the flags that name the fields of a document.
func DocumentFieldFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "fields", Usage: "`NAMES` of the fields or columns that make a document, as in title,body or \"{title}: {body}\""},
		&cli.StringFlag{Name: "id-field", Usage: "`NAME` of the field or column with the document's id"},
	}
}

// Fields returns the names of fields that flags give.
func Fields(c *cli.Context) (records.Fields, error) {
	f := records.Fields{QueryID: c.String("query-id-field"), DocumentID: c.String("id-field")}
	for name, template := range map[string]**records.Template{"query-fields": &f.Query, "fields": &f.Document} {
		if !c.IsSet(name) {
			continue
		}
		var err error
		if *template, err = records.ParseTemplate(c.String(name)); err != nil {
			return f, command.Usagef("--%s: %v", name, err)
		}
	}
	return f, nil
}

// Pairs is an input of pairs, with the texts of a TREC run.
type Pairs struct {
	*File
	Options records.Options
	Parquet *Section    // the input if it is Parquet, or nil
	texts   []*File     // of a TREC run
	opened  []io.Closer // the files of the texts, and their temporary copies
}

// OpenPairs opens the files that the flags of PairFlags name.
func OpenPairs(c *cli.Context, stdin io.Reader, options records.Options) (*Pairs, error) {
	return openPairs(c, c.String("input"), stdin, options)
}

func openPairs(c *cli.Context, path string, stdin io.Reader, options records.Options) (*Pairs, error) {
	if err := formatChoice.Check(c, "--"+formatChoice.Name); err != nil {
		return nil, err
	}
	options.Format, options.Header = records.Format(c.String("format")), HeaderPolicy(c)
	var err error
	if options.Fields, err = Fields(c); err != nil {
		return nil, err
	}
	p := &Pairs{Options: options}
	if p.File, err = Open(c.Context, path, stdin); err != nil {
		return nil, err
	}
	if err = p.openParquet(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if p.Options.Queries, err = p.openTexts(c, "queries"); err == nil {
		p.Options.Documents, err = p.openTexts(c, "documents")
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// OpenParquet opens a Parquet file that is read without flags.
func OpenParquet(ctx context.Context, path string) (*Pairs, error) {
	file, err := Open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	p := &Pairs{File: file, Options: records.Options{Format: records.Parquet}}
	if err := p.openParquet(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// openParquet prepares an input that is Parquet.
func (p *Pairs) openParquet() error {
	is, err := p.IsParquet(p.Options.Format)
	if err != nil || !is {
		return err
	}
	section, err := p.Section()
	if err != nil {
		return err
	}
	p.Parquet, p.opened = &section, append(p.opened, section)
	return nil
}

// openTexts indexes the texts of a TREC run that a flag names. It returns nil if the
// flag is not given.
func (p *Pairs) openTexts(c *cli.Context, flag string) (*records.Texts, error) {
	path := c.String(flag)
	switch path {
	case "":
		return nil, nil
	case "-":
		return nil, command.Usagef("--%s needs a file, not standard input", flag)
	}
	texts, err := p.indexTexts(c, path, flag == "queries")
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return texts, nil
}

// Reader returns a reader of the pairs.
func (p *Pairs) Reader() (*records.Reader, error) {
	r, err := p.newReader()
	if err == nil {
		err = p.checkFormat(r.Format)
	}
	return r, p.explain(err)
}

func (p *Pairs) newReader() (*records.Reader, error) {
	if p.Parquet != nil {
		return records.NewParquetReader(p.Name, p.Parquet, p.Parquet.Size(), p.Options)
	}
	return records.NewReader(p.Name, p, p.Options)
}

// Again opens the input a second time, at its start, with the same texts: both can be
// read at once. The input must be rewindable, and stay open while the second one is used.
func (p *Pairs) Again(ctx context.Context) (*Pairs, error) {
	file, err := Open(ctx, p.Name, nil)
	if err != nil {
		return nil, err
	}
	return &Pairs{File: file, Options: p.Options, Parquet: p.Parquet}, nil
}

// Rewindable reports whether the pairs can be read twice.
func (p *Pairs) Rewindable() bool { return p.Parquet != nil || p.File.Rewindable() }

// Keep copies pairs that can be read only once to a temporary file.
func (p *Pairs) Keep(ctx context.Context) error {
	if p.Rewindable() {
		return nil
	}
	return p.File.Keep(ctx)
}

// Rewind goes back to the start, for the next Reader.
func (p *Pairs) Rewind() error {
	if p.Parquet != nil {
		return nil
	}
	return p.File.Rewind()
}

// checkFormat rejects texts for a format that has its own.
func (p *Pairs) checkFormat(format records.Format) error {
	if format != records.TREC && len(p.texts) > 0 {
		return command.Usagef("--queries and --documents are for TREC runs, but %s has format %s; remove both flags", p.Name, format)
	}
	return nil
}

// explain makes usage errors of the errors that flags cause.
func (p *Pairs) explain(err error) error {
	switch {
	case errors.Is(err, records.ErrNoTexts):
		return command.Usagef("%s is a TREC run, which has ids only; give the texts with --queries FILE and --documents FILE", p.Name)
	case errors.Is(err, records.ErrNeedsHeader):
		return command.Usagef("--header=false: %v", err)
	case errors.Is(err, records.ErrNoColumns):
		return command.Usagef("--header: %v; the files of --queries and --documents need no --header", err)
	}
	return err
}

// Files lists the opened inputs.
func (p *Pairs) Files() []*File { return append(slices.Clone(p.texts), p.File) }

// Close closes all files.
func (p *Pairs) Close() error {
	errs := []error{p.File.Close()}
	for _, c := range p.opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Candidates are candidates and the open files with their texts.
type Candidates struct {
	*records.Candidates
	pairs *Pairs
}

// OpenCandidates reads the candidates in a file, whose format and texts the flags of
// TextFlags give. Close it when no more texts are needed.
func OpenCandidates(c *cli.Context, path string, stdin io.Reader) (_ *Candidates, err error) {
	pairs, err := openPairs(c, path, stdin, records.Options{Score: records.IgnoreScore})
	if err != nil {
		return nil, err
	}
	var candidates *records.Candidates
	reader, err := pairs.Reader()
	if err == nil {
		candidates, err = reader.Candidates()
	}
	if err != nil {
		return nil, errors.Join(err, pairs.Close())
	}
	return &Candidates{candidates, pairs}, nil
}

// Close closes the files.
func (c *Candidates) Close() error { return c.pairs.Close() }
