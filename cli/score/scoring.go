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

// errChanged reports an input that changed since the run began.
var errChanged = errors.New("the file was changed while it was read")

// scoring is a run of score.
type scoring struct {
	log     zerolog.Logger
	notices command.Notices
	skip    bool // lines that cannot be scored
	long    engine.Long
	pairs   *input.Pairs
	out     destination
	engine  *engine.Engine

	reader  *records.Reader
	chunks  *input.Chunks
	layout  records.Layout // of the output
	total   int            // records of the input, -1 if unknown
	todo    int            // of those, left to this run; -1 if unknown
	sum     []byte         // SHA-256 of its text, nil if unknown
	done    tally
	resumed tally // of done, by an earlier run
	facts   *output.Summary
}

// check reads an input that can be read twice to its end, so that a malformed
// line is found before the pairs above it have been scored for nothing.
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
		w, err := chunks.Next()
		if err != nil {
			return err
		}
		if len(w) == 0 {
			break
		}
		if err := w.Check(reader); err != nil && !s.skip {
			return err
		}
		s.total += len(w)
		bar.Add(len(w))
	}
	s.sum = reader.Position().Sum
	s.pairs.Options.Format = reader.Format
	return s.pairs.Rewind()
}

// begin goes to where the run begins or goes on.
func (s *scoring) begin(c *cli.Context) (err error) {
	if s.reader, err = s.pairs.Reader(); err != nil {
		return err
	}
	if s.reader.HeaderLike {
		s.log.Warn().Msg(input.HeaderWarning)
	}
	s.layout = s.reader.Layout()
	if s.reader.Format == records.TREC || s.pairs.Options.IDs {
		s.layout = records.Scored{}
		if s.out, err = ranked(c.Context, s.out, c.String("run-tag"), s.log); err != nil {
			return err
		}
	} else if c.IsSet("run-tag") {
		return command.Usagef("--run-tag is for TREC runs, and the output is %s", s.reader.Format)
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
		return fmt.Errorf("the earlier run left %s out: give --on-error skip to go on with it", output.Count(earlier.Skipped, "line", "lines"))
	}
	s.done, s.resumed = earlier.tally, earlier.tally
	if earlier.Input.Bytes == 0 {
		return nil
	}
	return s.reader.Skip(earlier.Input.reader(), fmt.Errorf("%s cannot be resumed: its first %d bytes are not those that the earlier run read", s.pairs.Name, earlier.Input.Bytes))
}

// scoreAll scores the input from where the reader is.
func (s *scoring) scoreAll(ctx context.Context) error {
	s.todo = -1
	if s.total >= 0 {
		s.todo = s.total - s.done.Records
	}
	bar := s.notices.Progress("scoring", "pairs", s.todo)
	defer bar.End()
	s.chunks = input.NewChunks(s.reader)
	s.chunks.WorkFor(s.engine.Info(), s.long)
	if s.answers() {
		s.chunks.ReadAhead()
		defer s.chunks.Close()
	}
	for {
		w, err := s.chunks.Next()
		if err != nil {
			return err
		}
		if len(w) == 0 {
			break
		}
		lines, err := s.scoreChunk(ctx, w, bar)
		if err != nil {
			return err
		}
		if err := s.out.write(lines, at(s.chunks.Position()), s.done); err != nil {
			return err
		}
	}
	if s.sum != nil && !bytes.Equal(s.sum, s.reader.Position().Sum) {
		return fmt.Errorf("read %s: %w", s.pairs.Name, errChanged)
	}
	return nil
}

// answers reports whether a program that writes the input may read the output
// and wait for it.
func (s *scoring) answers() bool {
	_, streaming := s.out.(*stream)
	return streaming && !s.pairs.Rewindable()
}

// scoreChunk returns the lines that a window becomes.
func (s *scoring) scoreChunk(ctx context.Context, w input.Chunk, bar *progress.Bar) ([]byte, error) {
	if err := w.Check(s.reader); err != nil && !s.skip {
		return nil, err
	}
	before := s.done.Records - s.resumed.Records
	// Progress counts windows of documents where those are scored.
	options := engine.ScoreOptions{Progress: func(done, of int) { bar.Set(before+len(w)*done/of, s.todo) }}
	score := s.engine.ScoreWith
	if s.long == engine.Passages {
		score = s.engine.ScorePassages
	}
	start := time.Now()
	result, err := score(ctx, w.Pairs(), options)
	if err != nil && ctx.Err() == nil && s.blame(ctx, w) {
		if err := w.Check(s.reader); !s.skip {
			return nil, err
		}
		result, err = score(ctx, w.Pairs(), options)
	}
	if err != nil {
		return nil, err
	}
	s.chunks.Took(w, time.Since(start))
	bar.Set(before+len(w), s.todo)
	s.facts.Add(len(result.Scores), result)
	return s.render(w, result)
}

// blame finds the records of a window that cannot be tokenised, and whether
// there are any.
func (s *scoring) blame(ctx context.Context, w input.Chunk) bool {
	found := false
	for i := range w {
		r := &w[i]
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

func (s *scoring) render(w input.Chunk, result *engine.Result) ([]byte, error) {
	var lines []byte
	var err error
	next := 0 // in the result
	for i := range w {
		r := &w[i]
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

// report prints what the run was.
func (s *scoring) report() {
	if n := s.done.Skipped; n > 0 {
		s.log.Warn().Int("skipped", n).Msg("lines could not be scored; --log-level info says which and why")
	}
	s.facts.Skipped, s.facts.Resumed = s.done.Skipped, s.resumed.Records
	s.facts.Format, s.facts.Fields, s.facts.Blank = string(s.reader.Format), s.reader.Sources(), s.reader.Blank
	s.notices.Summary(s.facts)
}

// identity names the input by what is in it.
func (s *scoring) identity() string {
	if s.sum == nil {
		return "a stream"
	}
	return fmt.Sprintf("%s with SHA-256 %x", output.Count(s.total, "record", "records"), s.sum)
}
