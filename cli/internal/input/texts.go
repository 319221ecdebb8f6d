package input

import (
	"errors"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/cli/records"
)

// indexTexts opens and indexes texts. They are read at random offsets, so compressed
// texts, tables and pipes are first copied to a temporary file.
func (p *Pairs) indexTexts(c *cli.Context, path string, queries bool) (*records.Texts, error) {
	log, err := command.NewLogger(c.String("log-level"), c.String("log-format"), c.App.ErrWriter)
	if err != nil {
		return nil, err
	}
	in, err := Open(c.Context, path, nil)
	if err != nil {
		return nil, err
	}
	p.texts, p.opened = append(p.texts, in), append(p.opened, in)
	section, err := in.Section()
	if err != nil {
		return nil, err
	}
	p.opened = append(p.opened, section)
	options := records.TextsOptions{Queries: queries, Fields: p.Options.Fields.Of(queries)}
	copied := section.scratch != nil
	if section, options.Objects, err = p.toObjects(in, section, queries); err != nil {
		return nil, err
	}
	copied = copied || options.Objects
	notices := command.NewNotices(c, c.App.ErrWriter, log)
	r := &countingReader{r: NewReader(c.Context, section), total: int(section.Size() >> 20)}
	if section.Size() >= records.KeepBytes {
		r.start = func() *progress.Bar { return notices.Progress("indexing", "MiB", r.total) }
	}
	defer r.end()
	var texts *records.Texts
	if copied {
		texts, err = records.IndexTexts(path, options, r, section)
	} else {
		texts, err = records.OpenTexts(path, options, r, in.file, records.KeepBytes)
	}
	if err != nil {
		return nil, err
	}
	p.opened = append(p.opened, texts)
	report(log, path, texts, copied && section.Size() >= records.KeepBytes)
	return texts, nil
}

// report logs where the index of a large file is.
func report(log zerolog.Logger, path string, texts *records.Texts, copied bool) {
	switch {
	case copied:
		log.Warn().Str("file", path).Msg("a compressed file or a table is unpacked and indexed by every run; unpack it to lines or objects once to keep its index")
	case texts.KeepError != nil:
		log.Warn().Str("file", path).Err(texts.KeepError).Msg("the index of the texts is not kept; the next run makes it again")
	case texts.KeptNow:
		log.Info().Str("file", path).Str("index", texts.Kept).Msg("the index of the texts is kept for later runs")
	}
}

// A countingReader shows the progress of reading from the first read on.
type countingReader struct {
	r     io.Reader
	bytes int64
	total int
	start func() *progress.Bar // nil to show nothing
	bar   *progress.Bar
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.bar == nil && c.start != nil {
		c.bar = c.start()
	}
	n, err := c.r.Read(p)
	if c.bytes += int64(n); c.bar != nil {
		c.bar.Set(int(c.bytes>>20), c.total)
	}
	return n, err
}

// end removes the bar.
func (c *countingReader) end() {
	if c.bar != nil {
		c.bar.End()
	}
}

// toObjects returns the rows of a table, or TREC topics, as lines with objects, in a temporary file. It
// returns the section of other texts unchanged.
func (p *Pairs) toObjects(in *File, section Section, queries bool) (_ Section, table bool, _ error) {
	parquet, err := in.IsParquet(records.Auto)
	if err != nil {
		return section, false, err
	}
	head := make([]byte, 4<<10)
	n, err := section.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return section, false, fmt.Errorf("read %s: %w", in.Name, err)
	}
	topics := queries && records.IsTopics(head[:n])
	reader, err := records.NewTableReader(in.Name, parquet, section, section.Size(), p.Options.Fields.Of(queries))
	if err != nil || reader == nil && !topics {
		return section, false, err
	}
	scratch, err := records.Scratch("")
	if err != nil {
		return section, false, err
	}
	p.opened = append(p.opened, scratch)
	var size int64
	if topics {
		size, err = records.WriteTopics(scratch, in.Name, section)
	} else {
		size, err = reader.WriteObjects(scratch)
	}
	return Section{io.NewSectionReader(scratch, 0, size), nil}, true, err
}
