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

// HeaderPolicy is what --header says.
func HeaderPolicy(c *cli.Context) records.HeaderPolicy {
	switch {
	case !c.IsSet("header"):
		return records.GuessHeader
	case c.Bool("header"):
		return records.SkipHeader
	}
	return records.NoHeader
}

func HeaderFlag() cli.Flag {
	return &cli.BoolFlag{Name: "header", DisableDefaultText: true,
		Usage: "first row of tab-separated columns is a header and is skipped; --header=false if it is not"}
}

// HeaderWarning is what to say of a first row that looks like a header.
const HeaderWarning = "the first row looks like the names of columns and is scored: give --header to skip it, or --header=false"

var formatChoice = command.Choice{Name: "format", Usage: "input `FORMAT`", Def: "auto", Values: []string{"auto", "jsonl", "tsv", "msmarco", "trec"}}

// FormatsPage names where the formats are described.
const FormatsPage = "docs/user/formats.md has every rule."

const FormatsHelp = "A line of the input is, by --format:\n" +
	"  jsonl    a JSON object with \"query\" and \"document\", or \"text\" with \"title\" before it\n" +
	"  tsv      query<TAB>document\n" +
	"  msmarco  qid<TAB>pid<TAB>query<TAB>passage, as in MS MARCO's top-1000 files\n" +
	"  trec     qid Q0 docid rank score tag, a TREC run, or qid pid rank: its texts are found\n" +
	"           in the files that --queries and --documents name, with lines id<TAB>text,\n" +
	"           id<TAB>url<TAB>title<TAB>body, or objects as in BEIR's queries and corpora\n" +
	"auto goes by the name of the file and its first line. Files may be compressed with\n" +
	"gzip or zstd. Blank lines and byte order marks are dropped. What is not UTF-8 text is\n" +
	"refused. " + FormatsPage + "\n\n"

// PairFlags are the flags of every command that reads pairs.
func PairFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "input", Usage: "`FILE` of pairs, - for standard input (required)"},
		formatChoice.Flag(),
		HeaderFlag(),
		&cli.StringFlag{Name: "queries", Usage: "`FILE` with the queries of a TREC run"},
		&cli.StringFlag{Name: "documents", Usage: "`FILE` with the documents of a TREC run"},
	}
}

// Pairs is where a command reads its pairs from.
type Pairs struct {
	*File
	Options records.Options
	texts   []*File     // of a TREC run
	opened  []io.Closer // what the texts are read from
}

// OpenPairs opens what the flags of pairFlags name.
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

// openTexts makes ready the texts of a TREC run that a flag names, if it does.
// They are read again and again: what cannot be, because it is compressed or no
// file, is unpacked into a temporary one.
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

// Reader starts to read the pairs.
func (p *Pairs) Reader() (*records.Reader, error) {
	r, err := records.NewReader(p.Name, p, p.Options)
	if errors.Is(err, records.ErrNoTexts) {
		return nil, command.Usagef("%s is a TREC run, which has no texts: give --queries FILE and --documents FILE", p.Name)
	}
	if errors.Is(err, records.ErrNoColumns) {
		return nil, command.Usagef("--header: %v; a header row of --queries or --documents does no harm", err)
	}
	if err != nil {
		return nil, err
	}
	if r.Format != records.TREC && len(p.texts) > 0 {
		return nil, command.Usagef("%s has its texts in it (format %s): --queries and --documents are for TREC runs", p.Name, r.Format)
	}
	return r, nil
}

// Files lists the inputs that the source reads.
func (p *Pairs) Files() []*File { return append(slices.Clone(p.texts), p.File) }

func (p *Pairs) Close() error {
	errs := []error{p.File.Close()}
	for _, c := range p.opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
