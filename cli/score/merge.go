package score

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
)

// mergeCommand returns the command score merge.
func mergeCommand(s command.Streams) *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "output", Usage: "`FILE` for the scored pairs, - for standard output (required)"},
		&cli.StringFlag{Name: "input", DefaultText: "none", Usage: "`FILE` that the parts are of; only Parquet needs it"},
	}
	return &cli.Command{
		Name:      "merge",
		Usage:     "join the outputs of score --part",
		UsageText: "mlxrank score merge --output FILE PART [PART...]",
		Description: "Writes the output that one run of score would write, byte for byte, from the outputs\n" +
			"of all parts, which may be given in any order. Each part's last line describes the\n" +
			"input, the model, the number format, the versions and the settings, and has a hash\n" +
			"of the part. merge checks these first, and names what differs. The parts stay.\n\n" +
			"Parts of a TREC run are ranked by merge. Parts of Parquet have only the scores, so\n" +
			"that merge needs --input. The output is compressed if its name ends in .gz or .zst.\n" +
			"It appears when it is complete; an older file of that name stays until then.\n\n" +
			command.Examples(
				[2]string{"Join all parts of a run", "mlxrank score merge --output scores.jsonl scores.part*"},
				[2]string{"Join the parts of a Parquet file", "mlxrank score merge --input pairs.parquet --output scores.parquet scores.part*"},
			),
		Flags:  append(flags, command.LogFlags()...),
		Action: func(c *cli.Context) error { return mergeParts(c, s) },
	}
}

// merging holds the state of one run of merge.
type merging struct {
	c       *cli.Context
	notices command.Notices
	log     zerolog.Logger
	parts   []partFile   // by number, when all are read
	pairs   *input.Pairs // of --input, or nil
}

// A partFile is a file and the manifest in it.
type partFile struct {
	path string
	scored.Manifest
}

func mergeParts(c *cli.Context, s command.Streams) (err error) {
	if c.String("output") == "" {
		return command.Usagef("--output is missing (see %s --help)", c.Command.HelpName)
	}
	if !c.Args().Present() {
		return command.Usagef("give the outputs of score --part (see %s --help)", c.Command.HelpName)
	}
	m := &merging{c: c}
	if m.log, err = command.Logger(c, s.Err); err != nil {
		return err
	}
	m.notices = command.NewNotices(c, s.Err, m.log)
	if err := m.readAll(); err != nil {
		return err
	}
	if err := checkParts(m.parts); err != nil {
		return err
	}
	if err := m.openInput(); err != nil {
		return err
	}
	if m.pairs != nil {
		defer func() { err = errors.Join(err, m.pairs.Close()) }()
	}
	return m.write(s.Out)
}

// readAll reads and checks each part.
func (m *merging) readAll() error {
	paths := m.c.Args().Slice()
	bar := m.notices.Progress("checking", "parts", len(paths))
	defer bar.End()
	for _, path := range paths {
		manifest, err := m.read(path, func([]byte) error { return nil })
		if err != nil {
			return err
		}
		m.parts = append(m.parts, partFile{path, manifest})
		bar.Add(1)
	}
	return nil
}

// read reads a part and gives its lines to body.
func (m *merging) read(path string, body func([]byte) error) (_ scored.Manifest, err error) {
	if path == "-" {
		return scored.Manifest{}, command.Usagef("a part cannot be standard input, since it is read twice; give files")
	}
	file, err := input.Open(m.c.Context, path, nil)
	if err != nil {
		return scored.Manifest{}, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if !file.Rewindable() {
		return scored.Manifest{}, command.Usagef("%s is not a regular file, and a part is read twice; copy it to a file", path)
	}
	if err := scored.CheckApart([]*input.File{file}, m.c.String("output")); err != nil {
		return scored.Manifest{}, err
	}
	manifest, err := scored.ReadPart(file, body)
	if err != nil {
		return scored.Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return manifest, nil
}

// checkParts sorts the parts and checks that they are all parts of one run.
func checkParts(parts []partFile) error {
	slices.SortStableFunc(parts, func(a, b partFile) int { return a.Part - b.Part })
	first := parts[0]
	for _, p := range parts[1:] {
		if err := first.compare(p); err != nil {
			return err
		}
	}
	next := 1
	var missing []string
	for i, p := range parts {
		if i > 0 && p.Part == parts[i-1].Part {
			return fmt.Errorf("%s and %s are both part %d of %d; give each part once", parts[i-1].path, p.path, p.Part, p.Of)
		}
		for ; next < p.Part; next++ {
			missing = append(missing, fmt.Sprint(next))
		}
		next = p.Part + 1
	}
	for ; next <= first.Of; next++ {
		missing = append(missing, fmt.Sprint(next))
	}
	if n := len(missing); n > 0 {
		const most = 10
		if n > most {
			missing = append(missing[:most], "...")
		}
		return fmt.Errorf("%s missing of %d: %s; score them, or give their files", output.Count(n, "part is", "parts are"), first.Of, strings.Join(missing, ", "))
	}
	return checkBorders(parts)
}

// compare rejects a part of another run.
func (p partFile) compare(other partFile) error {
	differ := func(what, a, b string) error {
		return fmt.Errorf("the parts do not belong together: %s: %s in %s and %s in %s; score one of them again", what, a, p.path, b, other.path)
	}
	switch {
	case p.Of != other.Of:
		return differ("number of parts", fmt.Sprint(p.Of), fmt.Sprint(other.Of))
	case !p.Whole.Equal(other.Whole):
		return differ("input", p.Whole.String(), other.Whole.String())
	case p.Kind != other.Kind:
		return differ("lines", string(p.Kind), string(other.Kind))
	}
	if d := scored.Differing(p.Settings, other.Settings); len(d) > 0 {
		return differ(d[0].Name, d[0].Was, d[0].Is)
	}
	return nil
}

// checkBorders checks that each part begins where the part before it ends.
func checkBorders(parts []partFile) error {
	last := parts[len(parts)-1]
	if parts[0].Start.Offset != 0 || !last.End.Equal(last.Whole) {
		return fmt.Errorf("the parts do not reach from the beginning to the end of the input: %s begins at %d and %s ends at %d of %d; score both again",
			parts[0].path, parts[0].Start.Offset, last.path, last.End.Offset, last.Whole.Offset)
	}
	for i, p := range parts[1:] {
		if before := parts[i]; !before.End.Equal(p.Start) {
			return fmt.Errorf("the parts do not adjoin: %s ends at %s and %s begins at %s; score both again", before.path, before.End, p.path, p.Start)
		}
	}
	return nil
}

// openInput opens the input of the parts if they need it.
func (m *merging) openInput() (err error) {
	first, path := m.parts[0], m.c.String("input")
	if first.Kind != scored.ScoreColumn {
		if path != "" {
			return command.Usagef("--input is for parts of Parquet, and the parts are of %s; remove it", first.Format)
		}
		return nil
	}
	if path == "" {
		return command.Usagef("the parts are of Parquet and have only the scores; give the scored file with --input FILE")
	}
	if m.pairs, err = input.OpenParquet(m.c.Context, path); err != nil {
		return err
	}
	if err := m.checkInput(); err != nil {
		return errors.Join(err, m.pairs.Close())
	}
	return nil
}

// checkInput checks that --input is the input of the parts.
func (m *merging) checkInput() error {
	if err := scored.CheckApart(m.pairs.Files(), m.c.String("output")); err != nil {
		return err
	}
	sum, err := m.pairs.Parquet.Sum()
	if err != nil {
		return fmt.Errorf("read %s: %w", m.pairs.Name, err)
	}
	if want := m.parts[0].Whole.Sum; !slices.Equal(sum, want) {
		return fmt.Errorf("%s is not the input of the parts: its SHA-256 is %x, and %s is of one with %x", m.pairs.Name, sum, m.parts[0].path, []byte(want))
	}
	return nil
}

// write writes the output.
func (m *merging) write(stdout io.Writer) (err error) {
	first, path := m.parts[0], m.c.String("output")
	if err := scored.CheckName(path, first.Format, first.Kind == scored.RunRows); err != nil {
		return err
	}
	out, err := scored.Create(m.c.Context, path, stdout, false)
	if err != nil {
		return err
	}
	defer func() { err = out.Close(err) }()
	format := scored.Format{Pairs: m.pairs, RunTag: first.RunTag, Log: m.log}
	if out, err = format.Finish(m.c.Context, out, first.Kind); err != nil {
		return err
	}
	// Another run of merge begins again, so that there is nothing to resume.
	if _, err := out.Begin(nil); err != nil {
		return err
	}
	if err := m.copy(out); err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	count, skipped := 0, 0
	for _, p := range m.parts {
		count, skipped = count+p.Records, skipped+p.Skipped
	}
	m.notices.Line(fmt.Sprintf("merged    %s, %s, %d skipped", output.Count(len(m.parts), "part", "parts"), output.Count(count, "line", "lines"), skipped),
		map[string]any{"parts": len(m.parts), "lines": count, "skipped": skipped})
	return nil
}

// copy writes the lines of all parts, in order.
func (m *merging) copy(out scored.Destination) error {
	bar := m.notices.Progress("merging", "parts", len(m.parts))
	defer bar.End()
	processors := map[string]string{}
	for _, p := range m.parts {
		again, err := m.read(p.path, func(lines []byte) error { return out.WriteChunk(lines, scored.Position{}, scored.Tally{}) })
		if err != nil {
			return err
		}
		if !slices.Equal(again.Output.Sum, p.Output.Sum) {
			return fmt.Errorf("%s: %w", p.path, input.ErrChanged)
		}
		if processors[p.Processor] == "" {
			processors[p.Processor] = p.path
		}
		bar.Add(1)
	}
	if len(processors) > 1 {
		m.log.Warn().Int("kinds", len(processors)).Msg("the parts come from different processors; the last digits of a score may differ from the scores of one machine")
	}
	return nil
}
