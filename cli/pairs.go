package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/records"
)

var formatChoice = choice{name: "format", usage: "take the input for `FORMAT`", def: "auto", values: []string{"auto", "jsonl", "tsv", "msmarco", "trec"}}

// formatsPage says where the formats are described.
const formatsPage = "docs/user/formats.md has every rule."

const formatsHelp = "A line of the input is, by --format:\n" +
	"  jsonl    a JSON object with \"query\" and \"document\", or \"text\" with \"title\" before it\n" +
	"  tsv      query<TAB>document\n" +
	"  msmarco  qid<TAB>pid<TAB>query<TAB>passage, as in MS MARCO's top-1000 files\n" +
	"  trec     qid Q0 docid rank score tag, a TREC run, or qid pid rank: its texts are found\n" +
	"           in the files that --queries and --documents name, with lines id<TAB>text,\n" +
	"           id<TAB>url<TAB>title<TAB>body, or objects as in BEIR's queries and corpora\n" +
	"auto goes by the name of the file and its first line. Files may be compressed with\n" +
	"gzip or zstd. Blank lines and byte order marks are dropped. What is not UTF-8 text is\n" +
	"refused. " + formatsPage + "\n\n"

// pairFlags are the flags of every command that reads pairs.
func pairFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "input", Usage: "read the pairs from `FILE`, - for standard input (required)"},
		formatChoice.flag(),
		headerFlag(),
		&cli.StringFlag{Name: "queries", Usage: "find the queries of a TREC run in `FILE`"},
		&cli.StringFlag{Name: "documents", Usage: "find the documents of a TREC run in `FILE`"},
	}
}

// pairSource is where a command reads its pairs from.
type pairSource struct {
	*input
	options records.Options
	texts   []*input    // of a TREC run
	opened  []io.Closer // what the texts are read from
}

// openPairs opens what the flags of pairFlags name.
func openPairs(c *cli.Context, stdin io.Reader, options records.Options) (_ *pairSource, err error) {
	if err := formatChoice.check(c, "--"+formatChoice.name); err != nil {
		return nil, err
	}
	options.Format, options.Header = records.Format(c.String("format")), headerPolicy(c)
	p := &pairSource{options: options}
	if p.input, err = openInput(c.Context, c.String("input"), stdin); err != nil {
		return nil, err
	}
	if p.options.Queries, err = p.openTexts(c, "queries"); err == nil {
		p.options.Documents, err = p.openTexts(c, "documents")
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// openTexts makes ready the texts of a TREC run that a flag names, if it does.
// They are read again and again: what cannot be, because it is compressed or no
// file, is unpacked into a temporary one.
func (p *pairSource) openTexts(c *cli.Context, flag string) (*records.Texts, error) {
	path := c.String(flag)
	switch path {
	case "":
		return nil, nil
	case "-":
		return nil, usagef("--%s needs a file, not standard input", flag)
	}
	texts, err := p.indexTexts(c.Context, path, flag == "queries")
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return texts, nil
}

func (p *pairSource) indexTexts(ctx context.Context, path string, queries bool) (*records.Texts, error) {
	in, err := openInput(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	p.texts, p.opened = append(p.texts, in), append(p.opened, in)
	packed, err := in.compressed()
	if err != nil {
		return nil, err
	}
	file, size := in.file, in.size
	if packed || !in.rewindable() {
		if file, err = records.Scratch(""); err != nil {
			return nil, err
		}
		p.opened = append(p.opened, file)
		if size, err = io.Copy(file, in); err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
	}
	text := io.NewSectionReader(file, 0, size)
	return records.IndexTexts(path, queries, newInterruptible(ctx, text), text)
}

// reader starts to read the pairs.
func (p *pairSource) reader() (*records.Reader, error) {
	r, err := records.NewReader(p.name, p, p.options)
	if errors.Is(err, records.ErrNoTexts) {
		return nil, usagef("%s is a TREC run, which has no texts: give --queries FILE and --documents FILE", p.name)
	}
	if errors.Is(err, records.ErrNoColumns) {
		return nil, usagef("--header: %v; a header row of --queries or --documents does no harm", err)
	}
	if err != nil {
		return nil, err
	}
	if r.Format != records.TREC && len(p.texts) > 0 {
		return nil, usagef("%s has its texts in it (format %s): --queries and --documents are for TREC runs", p.name, r.Format)
	}
	return r, nil
}

// files lists the inputs that the source reads.
func (p *pairSource) files() []*input { return append(slices.Clone(p.texts), p.input) }

func (p *pairSource) Close() error {
	errs := []error{p.input.Close()}
	for _, c := range p.opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
