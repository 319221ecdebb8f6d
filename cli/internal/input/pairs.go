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

var formatChoice = command.Choice{Name: "format", Usage: "input `FORMAT`", Def: "auto", Values: []string{"auto", "jsonl", "tsv", "msmarco", "trec"}}

// FormatsPage refers to the description of the formats.
const FormatsPage = "docs/user/formats.md has every rule."

// FormatsHelp describes the formats of pairs.
const FormatsHelp = "--format selects the format of the input's lines:\n" +
	"  jsonl    a JSON object with \"query\" and \"document\"; instead of \"document\", it may have\n" +
	"           \"text\" and an optional \"title\", which goes before the text\n" +
	"  tsv      query<TAB>document\n" +
	"  msmarco  qid<TAB>pid<TAB>query<TAB>passage, as in MS MARCO's top-1000 files\n" +
	"  trec     a TREC run (qid Q0 docid rank score tag, or qid pid rank); --queries and\n" +
	"           --documents name the files with its texts, whose lines are id<TAB>text,\n" +
	"           id<TAB>url<TAB>title<TAB>body, or objects as in BEIR's queries and corpora\n" +
	"auto detects the format by the file's name and its first line. Files may be compressed\n" +
	"with gzip or zstd. Blank lines and byte order marks are skipped. Bytes that are not\n" +
	"UTF-8 are an error. " + FormatsPage + "\n\n"

// PairFlags returns the flags of every command that reads pairs.
func PairFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "input", Usage: "`FILE` of pairs, - for standard input (required)"},
		formatChoice.Flag(),
		HeaderFlag(),
		&cli.StringFlag{Name: "queries", Usage: "`FILE` with the queries of a TREC run"},
		&cli.StringFlag{Name: "documents", Usage: "`FILE` with the documents of a TREC run"},
	}
}

// Pairs is an input of pairs, with the texts of a TREC run.
type Pairs struct {
	*File
	Options records.Options
	texts   []*File     // of a TREC run
	opened  []io.Closer // the files of the texts, and their temporary copies
}

// OpenPairs opens the files that the flags of PairFlags name.
func OpenPairs(c *cli.Context, stdin io.Reader, options records.Options) (_ *Pairs, err error) {
	if err := formatChoice.Check(c, "--"+formatChoice.Name); err != nil {
		return nil, err
	}
	options.Format, options.Header = records.Format(c.String("format")), HeaderPolicy(c)
	p := &Pairs{Options: options}
	if p.File, err = Open(c.Context, c.String("input"), stdin); err != nil {
		return nil, err
	}
	if p.Options.Queries, err = p.openTexts(c, "queries"); err == nil {
		p.Options.Documents, err = p.openTexts(c, "documents")
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
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
	texts, err := p.indexTexts(c.Context, path, flag == "queries")
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return texts, nil
}

// indexTexts opens and indexes texts. They are read at random offsets, so compressed
// texts and pipes are first copied to a temporary file.
func (p *Pairs) indexTexts(ctx context.Context, path string, queries bool) (*records.Texts, error) {
	in, err := Open(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	p.texts, p.opened = append(p.texts, in), append(p.opened, in)
	packed, err := in.compressed()
	if err != nil {
		return nil, err
	}
	file, size := in.file, in.size
	if packed || !in.Rewindable() {
		if file, err = records.Scratch(""); err != nil {
			return nil, err
		}
		p.opened = append(p.opened, file)
		if size, err = io.Copy(file, in); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
	}
	text := io.NewSectionReader(file, 0, size)
	return records.IndexTexts(path, queries, NewReader(ctx, text), text)
}

// Reader returns a reader of the pairs.
func (p *Pairs) Reader() (*records.Reader, error) {
	r, err := records.NewReader(p.Name, p, p.Options)
	if errors.Is(err, records.ErrNoTexts) {
		return nil, command.Usagef("%s is a TREC run, which has ids only; give the texts with --queries FILE and --documents FILE", p.Name)
	}
	if errors.Is(err, records.ErrNoColumns) {
		return nil, command.Usagef("--header: %v; the files of --queries and --documents need no --header", err)
	}
	if err != nil {
		return nil, err
	}
	if r.Format != records.TREC && len(p.texts) > 0 {
		return nil, command.Usagef("--queries and --documents are for TREC runs, but %s has format %s; remove both flags", p.Name, r.Format)
	}
	return r, nil
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
