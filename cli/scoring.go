package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// errChanged is of an input that is not what it was when the run began.
var errChanged = errors.New("the file was changed while it was read")

// scoring is a run of score.
type scoring struct {
	log      zerolog.Logger
	terminal io.Writer
	skip     bool // lines that cannot be scored
	pairs    *pairSource
	out      output
	engine   *engine.Engine

	reader  *records.Reader
	layout  records.Layout // of the output
	total   int            // records of the input, -1 if nobody knows
	sum     []byte         // SHA-256 of its text, nil if nobody knows
	done    tally
	resumed tally // of done, by an earlier run
	facts   *facts
}

// check reads an input that can be read twice to its end, so that a malformed
// line is found before the pairs above it have been scored for nothing.
func (s *scoring) check() (err error) {
	s.total = -1
	if !s.pairs.rewindable() {
		return nil
	}
	reader, err := s.pairs.reader()
	if err != nil {
		return err
	}
	bar := newProgress(s.terminal, "checking", "lines", -1)
	defer func() { err = errors.Join(err, bar.end()) }()
	for s.total = 0; ; {
		w, err := readWindow(reader)
		if err != nil {
			return err
		}
		if len(w) == 0 {
			break
		}
		if err := w.check(reader); err != nil && !s.skip {
			return err
		}
		s.total += len(w)
		if err := bar.add(len(w)); err != nil {
			return err
		}
	}
	s.sum = reader.Position().Sum
	s.pairs.options.Format = reader.Format
	return s.pairs.rewind()
}

// begin goes to where the run begins or goes on.
func (s *scoring) begin(c *cli.Context) (err error) {
	if s.reader, err = s.pairs.reader(); err != nil {
		return err
	}
	if s.reader.HeaderLike {
		s.log.Warn().Msg(headerWarning)
	}
	s.layout = s.reader.Layout()
	if s.reader.Format == records.TREC || s.pairs.options.IDs {
		s.layout = records.Scored{}
		if s.out, err = ranked(c.Context, s.out, c.String("run-tag"), s.log); err != nil {
			return err
		}
	} else if c.IsSet("run-tag") {
		return usagef("--run-tag is for TREC runs, and the output is %s", s.reader.Format)
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
		return fmt.Errorf("the earlier run left %s out: give --on-error skip to go on with it", count(earlier.Skipped, "line", "lines"))
	}
	s.done, s.resumed = earlier.tally, earlier.tally
	if earlier.Input.Bytes == 0 {
		return nil
	}
	return s.reader.Skip(earlier.Input.reader(), fmt.Errorf("%s cannot be resumed: its first %d bytes are not those that the earlier run read", s.pairs.name, earlier.Input.Bytes))
}

// scoreAll scores the input from where the reader is.
func (s *scoring) scoreAll(ctx context.Context) (err error) {
	left := s.total
	if left >= 0 {
		left -= s.done.Records
	}
	bar := newProgress(s.terminal, "scoring", "pairs", left)
	defer func() { err = errors.Join(err, bar.end()) }()
	for {
		w, err := readWindow(s.reader)
		if err != nil {
			return err
		}
		if len(w) == 0 {
			break
		}
		lines, err := s.scoreWindow(ctx, w)
		if err != nil {
			return err
		}
		if err := s.out.write(lines, at(s.reader.Position()), s.done); err != nil {
			return err
		}
		if err := bar.add(len(w)); err != nil {
			return err
		}
	}
	if s.sum != nil && !bytes.Equal(s.sum, s.reader.Position().Sum) {
		return fmt.Errorf("read %s: %w", s.pairs.name, errChanged)
	}
	return nil
}

// scoreWindow returns the lines that a window becomes.
func (s *scoring) scoreWindow(ctx context.Context, w window) ([]byte, error) {
	if err := w.check(s.reader); err != nil && !s.skip {
		return nil, err
	}
	result, err := s.engine.Score(ctx, w.pairs())
	if err != nil && ctx.Err() == nil && s.blame(ctx, w) {
		if err := w.check(s.reader); !s.skip {
			return nil, err
		}
		result, err = s.engine.Score(ctx, w.pairs())
	}
	if err != nil {
		return nil, err
	}
	s.facts.add(len(result.Scores), result)
	return s.render(w, result)
}

// blame finds the records of a window that cannot be tokenised, and whether
// there are any.
func (s *scoring) blame(ctx context.Context, w window) bool {
	found := false
	for i := range w {
		r := &w[i]
		if r.Err != nil || r.Header {
			continue
		}
		_, err := s.engine.Tokenize(ctx, []engine.Pair{{Query: r.Query, Document: r.Document}})
		if err != nil && ctx.Err() == nil {
			r.Err, found = err, true
		}
	}
	return found
}

func (s *scoring) render(w window, result *engine.Result) ([]byte, error) {
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

// report says what the run was.
func (s *scoring) report() error {
	if n := s.done.Skipped; n > 0 {
		s.log.Warn().Int("skipped", n).Msg("lines could not be scored; --log-level info says which and why")
	}
	s.facts.Skipped, s.facts.Resumed = s.done.Skipped, s.resumed.Records
	s.facts.Format, s.facts.Fields, s.facts.Blank = string(s.reader.Format), s.reader.Sources(), s.reader.Blank
	return s.facts.write(s.terminal)
}

// identity names the input by what is in it.
func (s *scoring) identity() string {
	if s.sum == nil {
		return "a stream"
	}
	return fmt.Sprintf("%s with SHA-256 %x", count(s.total, "record", "records"), s.sum)
}
