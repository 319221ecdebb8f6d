package score

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// errChanged reports an input that changed during the run.
var errChanged = errors.New("the file changed during the run; run again")

// scoring holds the state of one run of score.
type scoring struct {
	log     zerolog.Logger
	notices command.Notices
	skip    bool // skip lines that cannot be scored
	long    engine.Long
	pairs   *input.Pairs
	out     destination
	engine  *engine.Engine

	reader  *records.Reader
	chunks  *input.Chunks
	layout  records.Layout // of the output
	total   int            // records of the input; -1 if unknown
	todo    int            // records that this run has to score; -1 if unknown
	sum     []byte         // SHA-256 of the input; nil if unknown
	done    tally
	resumed tally // the part of done that an earlier run scored
	facts   *output.Summary
}

// check reads the whole input if it can be read twice. So a malformed line ends the
// run before any pair is scored.
func (s *scoring) check() error {
	s.total = -1
	if !s.pairs.Rewindable() {
		return nil
	}
	reader, err := s.pairs.Reader()
	if err != nil {
		return err
	}
	bar := s.notices.Progress("checking", "lines", -1)
	defer bar.End()
	chunks := input.NewChunks(reader)
	for s.total = 0; ; {
		chunk, err := chunks.Next()
		if err != nil {
			return err
		}
		if len(chunk) == 0 {
			break
		}
		if err := chunk.Check(reader); err != nil && !s.skip {
			return err
		}
		s.total += len(chunk)
		bar.Add(len(chunk))
	}
	s.sum = reader.Position().Sum
	s.pairs.Options.Format = reader.Format
	return s.pairs.Rewind()
}

// begin moves the reader to where this run starts: after what an earlier run scored.
func (s *scoring) begin(c *cli.Context) (err error) {
	if s.reader, err = s.pairs.Reader(); err != nil {
		return err
	}
	if s.reader.HeaderLike {
		s.log.Warn().Msg(input.HeaderWarning)
	}
	if err := checkOutputName(c.String("output"), s.reader.Format, s.pairs.Options.IDs); err != nil {
		return err
	}
	s.layout = s.reader.Layout()
	switch {
	case s.reader.Format == records.TREC || s.pairs.Options.IDs:
		s.layout = records.Scored{}
		if s.out, err = newFinished(s.out, ranking{c.Context, c.String("run-tag"), s.log}); err != nil {
			return err
		}
	case c.IsSet("run-tag"):
		return command.Usagef("--run-tag needs a TREC run, and the output is %s", s.reader.Format)
	case s.reader.Format == records.Parquet:
		if s.out, err = newFinished(s.out, scoredParquet{c.Context, s.pairs}); err != nil {
			return err
		}
	}
	settings, err := s.settings(c)
	if err != nil {
		return err
	}
	earlier, err := s.out.begin(settings)
	if err != nil {
		return err
	}
	if earlier.Skipped > 0 && !s.skip {
		return fmt.Errorf("the earlier run skipped %s; to continue it, give --on-error skip", output.Count(earlier.Skipped, "line", "lines"))
	}
	s.done, s.resumed = earlier.tally, earlier.tally
	if earlier.Input.Bytes == 0 {
		return nil
	}
	return s.reader.Skip(earlier.Input.reader(), s.changed(earlier))
}

// changed returns the error of an input that is not the one of the earlier run.
func (s *scoring) changed(earlier state) error {
	if s.reader.Format == records.Parquet {
		return fmt.Errorf("%s cannot be resumed: it changed since the earlier run", s.pairs.Name)
	}
	return fmt.Errorf("%s cannot be resumed: its first %d bytes changed since the earlier run", s.pairs.Name, earlier.Input.Bytes)
}

// scoreAll scores the rest of the input.
func (s *scoring) scoreAll(ctx context.Context) error {
	s.todo = -1
	if s.total >= 0 {
		s.todo = s.total - s.done.Records
	}
	bar := s.notices.Progress("scoring", "pairs", s.todo)
	defer bar.End()
	s.chunks = input.NewChunks(s.reader)
	s.chunks.WorkFor(s.engine.Info(), s.long)
	if _, streaming := s.out.(*stream); streaming && !s.pairs.Rewindable() {
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
		if err := s.out.write(lines, newPosition(s.chunks.Position()), s.done); err != nil {
			return err
		}
	}
	if s.sum != nil && !bytes.Equal(s.sum, s.reader.Position().Sum) {
		return fmt.Errorf("read %s: %w", s.pairs.Name, errChanged)
	}
	return nil
}

// scoreChunk scores a chunk and returns its lines of the output.
func (s *scoring) scoreChunk(ctx context.Context, chunk input.Chunk, bar *progress.Bar) ([]byte, error) {
	if err := chunk.Check(s.reader); err != nil && !s.skip {
		return nil, err
	}
	before := s.done.Records - s.resumed.Records
	// With --long passages, Progress counts passages and not records.
	options := engine.ScoreOptions{Progress: func(done, of int) { bar.Set(before+len(chunk)*done/of, s.todo) }}
	score := s.engine.ScoreWith
	if s.long == engine.Passages {
		score = s.engine.ScorePassages
	}
	start := time.Now()
	result, err := score(ctx, chunk.Pairs(), options)
	if err != nil && ctx.Err() == nil && s.markBad(ctx, chunk) {
		if !s.skip {
			return nil, chunk.Check(s.reader)
		}
		result, err = score(ctx, chunk.Pairs(), options)
	}
	if err != nil {
		return nil, err
	}
	s.chunks.Took(chunk, time.Since(start))
	bar.Set(before+len(chunk), s.todo)
	s.facts.Add(len(result.Scores), result)
	return s.render(chunk, result)
}

// markBad sets the error of each record that cannot be tokenised, and reports whether
// there is one.
func (s *scoring) markBad(ctx context.Context, chunk input.Chunk) bool {
	found := false
	for i := range chunk {
		r := &chunk[i]
		if r.Err != nil || r.Header {
			continue
		}
		_, err := s.engine.Tokenize(ctx, []engine.Pair{{Query: r.Query, Document: r.Document}})
		if err != nil && ctx.Err() == nil {
			r.Err, found = input.TextReason(err), true
		}
	}
	return found
}

// render returns the lines of a scored chunk and counts its records.
func (s *scoring) render(chunk input.Chunk, result *engine.Result) ([]byte, error) {
	var lines []byte
	var err error
	next := 0 // index into the result, which has no failed records
	for i := range chunk {
		r := &chunk[i]
		s.done.Records++
		switch {
		case r.Err != nil:
			s.done.Skipped++
			s.log.Info().Int("line", r.Line).Err(r.Err).Msg("skipped")
			lines, err = s.layout.AppendFailed(lines, r)
		case r.Header:
			lines = s.layout.AppendHeader(lines, r)
		default:
			v := records.Value{Score: result.Scores[next], Logit: result.Logits[next], Empty: engine.IsEmpty(r.Document)}
			if v.Empty {
				s.facts.Empty++
			}
			lines, err = s.layout.AppendScored(lines, r, v)
			next++
		}
		if err != nil {
			return nil, s.reader.Errorf(r, "%w", err)
		}
	}
	return lines, nil
}

// report prints the summary of the run.
func (s *scoring) report() {
	if n := s.done.Skipped; n > 0 {
		s.log.Warn().Int("skipped", n).Msg("some lines could not be scored; --log-level info lists them with the reason")
	}
	s.facts.Skipped, s.facts.Resumed = s.done.Skipped, s.resumed.Records
	s.facts.Format, s.facts.Fields, s.facts.Blank = string(s.reader.Format), s.reader.Sources(), s.reader.Blank
	s.notices.Summary(s.facts)
}
