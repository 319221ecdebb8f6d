package score

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/system"
)

// scoring holds the state of one run of score.
type scoring struct {
	log     zerolog.Logger
	notices command.Notices
	part    *input.Part  // nil for the whole input
	within  *input.Range // of the part
	skip    bool         // skip lines that cannot be scored
	long    engine.Long
	pairs   *input.Pairs
	out     scored.Destination
	engine  *engine.Engine

	reader  *records.Reader
	chunks  *input.Chunks
	lines   *scored.Lines
	survey  scored.Survey
	todo    int          // records that this run has to score; -1 if unknown
	resumed scored.Tally // the part of the done records that an earlier run scored
	facts   *output.Summary
}

// begin moves the reader to where this run starts: after what an earlier run scored.
func (s *scoring) begin(c *cli.Context) (err error) {
	if s.reader, err = s.pairs.Reader(); err != nil {
		return err
	}
	if s.reader.HeaderLike {
		s.log.Warn().Msg(input.HeaderWarning)
	}
	if err := scored.CheckName(c.String("output"), s.reader.Format, s.pairs.Options.IDs); err != nil {
		return err
	}
	if err := s.prepare(c); err != nil {
		return err
	}
	settings, err := s.settings(c)
	if err != nil {
		return err
	}
	earlier, err := s.out.Begin(settings)
	if err != nil {
		return err
	}
	if earlier.Skipped > 0 && !s.skip {
		return fmt.Errorf("the earlier run skipped %s; to continue it, give --on-error skip", output.Count(earlier.Skipped, "line", "lines"))
	}
	s.lines.Done, s.resumed = earlier.Tally, earlier.Tally
	from, changed := earlier.Input.Reader(), s.changed(earlier)
	switch {
	case s.within != nil && from.Offset == 0:
		from, changed = s.within.Start, fmt.Errorf("read %s: %w", s.pairs.Name, input.ErrChanged)
		fallthrough
	case s.within != nil:
		return s.within.Enter(s.reader, from, changed)
	case from.Offset == 0:
		return nil
	}
	return s.reader.Skip(from, changed)
}

// prepare sets the lines of the output, and what is made of them.
func (s *scoring) prepare(c *cli.Context) (err error) {
	format := scored.Format{Pairs: s.pairs, RunTag: c.String("run-tag"), TagGiven: c.IsSet("run-tag"), Log: s.log}
	if s.part == nil {
		s.lines, s.out, err = format.Prepare(c.Context, s.out, s.reader)
		return err
	}
	manifest := scored.NewManifest(*s.part, *s.within)
	if s.lines, manifest.Kind, err = format.Lines(s.reader); err != nil {
		return err
	}
	manifest.Format, manifest.RunTag, manifest.Processor = s.reader.Format, format.RunTag, system.Processor()
	if manifest.Settings, err = s.partSettings(c); err != nil {
		return err
	}
	s.out = scored.NewPart(s.out, manifest)
	return nil
}

// changed returns the error of an input that is not the one of the earlier run.
func (s *scoring) changed(earlier scored.State) error {
	if s.reader.Format == records.Parquet {
		return fmt.Errorf("%s cannot be resumed: it changed since the earlier run", s.pairs.Name)
	}
	return fmt.Errorf("%s cannot be resumed: its first %d bytes changed since the earlier run", s.pairs.Name, earlier.Input.Bytes)
}

// scoreAll scores the rest of the input.
func (s *scoring) scoreAll(ctx context.Context) error {
	s.todo = -1
	if s.survey.Records >= 0 {
		s.todo = s.survey.Records - s.resumed.Records
	}
	bar := s.notices.Progress("scoring", "pairs", s.todo)
	defer bar.End()
	s.chunks = input.NewChunks(s.reader)
	s.chunks.WorkFor(s.engine.Info(), s.long)
	if scored.IsStream(s.out) && !s.pairs.Rewindable() {
		// The program that writes the input may wait for a score before it writes more.
		s.chunks.ReadAhead()
		defer s.chunks.Close()
	}
	for {
		chunk, err := s.chunks.Next()
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			break
		}
		lines, err := s.scoreChunk(ctx, chunk, bar)
		if err != nil {
			return err
		}
		if err := s.out.WriteChunk(lines, scored.NewPosition(s.chunks.Position()), s.lines.Done); err != nil {
			return err
		}
	}
	if s.survey.Sum != nil && !bytes.Equal(s.survey.Sum, s.reader.Position().Sum) {
		return fmt.Errorf("read %s: %w", s.pairs.Name, input.ErrChanged)
	}
	return nil
}

// scoreChunk scores a chunk and returns its lines of the output.
func (s *scoring) scoreChunk(ctx context.Context, chunk input.Chunk, bar *progress.Bar) ([]byte, error) {
	if err := chunk.Check(s.reader); err != nil && !s.skip {
		return nil, err
	}
	before := s.lines.Done.Records - s.resumed.Records
	// With --long passages, Progress counts passages and not records.
	options := engine.ScoreOptions{Progress: func(done, of int) { bar.Set(before+len(chunk)*done/of, s.todo) }}
	start := time.Now()
	results, result, err := scored.Score(ctx, s.engine, s.long, chunk.Pairs(), options, s.skip)
	if err != nil {
		return nil, err
	}
	if result == nil {
		return nil, scored.Mark(chunk, results).Check(s.reader)
	}
	s.chunks.Took(chunk, time.Since(start))
	bar.Set(before+len(chunk), s.todo)
	s.facts.Add(len(result.Scores), result)
	return s.lines.Render(chunk, results)
}

// report prints the summary of the run.
func (s *scoring) report() {
	if n := s.lines.Done.Skipped; n > 0 {
		s.log.Warn().Int("skipped", n).Msg("some lines could not be scored; --log-level info lists them with the reason")
	}
	s.facts.Empty, s.facts.Skipped, s.facts.Resumed = s.lines.Empty, s.lines.Done.Skipped, s.resumed.Records
	s.facts.Format, s.facts.Fields, s.facts.Blank = string(s.reader.Format), s.reader.Sources(), s.reader.Blank
	s.notices.Summary(s.facts)
}
