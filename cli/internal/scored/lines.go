package scored

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// Lines renders records with their results as the lines of an output, and counts them.
type Lines struct {
	Done  Tally
	Empty int // documents without text

	reader *records.Reader
	layout records.Layout
	log    zerolog.Logger
}

// Format describes what an output is made of.
type Format struct {
	Pairs *input.Pairs
	// RunTag is the last column of a TREC run. TagGiven reports that the user chose it.
	RunTag   string
	TagGiven bool
	Log      zerolog.Logger
}

// Prepare returns the lines of an output for the records of reader, and the destination
// that makes the output of them. On an error, it returns out unchanged.
func (f Format) Prepare(ctx context.Context, out Destination, reader *records.Reader) (*Lines, Destination, error) {
	lines, kind, err := f.Lines(reader)
	if err == nil {
		out, err = f.Finish(ctx, out, kind)
	}
	return lines, out, err
}

// Lines returns the lines of an output for the records of reader, and what they are.
func (f Format) Lines(reader *records.Reader) (*Lines, Kind, error) {
	lines := &Lines{reader: reader, layout: reader.Layout(), log: f.Log}
	switch {
	case reader.Format == records.TREC || f.Pairs.Options.IDs:
		lines.layout = records.Scored{}
		return lines, RunRows, nil
	case f.TagGiven:
		return nil, "", command.Usagef("--run-tag needs a TREC run, and the output is %s", reader.Format)
	case reader.Format == records.Parquet:
		return lines, ScoreColumn, nil
	}
	return lines, OutputLines, nil
}

// Finish returns the destination that makes the output of lines, in out. On an error, it
// returns out unchanged.
func (f Format) Finish(ctx context.Context, out Destination, kind Kind) (Destination, error) {
	switch kind {
	case RunRows:
		return newFinished(out, ranking{ctx, f.RunTag, f.Log})
	case ScoreColumn:
		return newFinished(out, scoredParquet{ctx, f.Pairs})
	case OutputLines:
	}
	return out, nil
}

// A Result is the model's answer for a record: a value, or the reason why it has none.
type Result struct {
	Score, Logit float32
	Err          error
}

// Render returns the lines of a chunk. results has an element for each of chunk.Pairs.
// A record whose result is an error gets that error.
func (l *Lines) Render(chunk input.Chunk, results []Result) ([]byte, error) {
	var lines []byte
	var err error
	for i := range chunk {
		r := &chunk[i]
		var result Result
		if isPair(r) {
			result, results = results[0], results[1:]
			r.Err = result.Err
		}
		l.Done.Records++
		switch {
		case r.Err != nil:
			l.Done.Skipped++
			l.log.Info().Int("line", r.Line).Err(r.Err).Msg("skipped")
			lines, err = l.layout.AppendFailed(lines, r)
		case r.Header:
			lines = l.layout.AppendHeader(lines, r)
		default:
			v := records.Value{Score: result.Score, Logit: result.Logit, Empty: engine.IsEmpty(r.Document)}
			if v.Empty {
				l.Empty++
			}
			lines, err = l.layout.AppendScored(lines, r, v)
		}
		if err != nil {
			return nil, l.reader.Errorf(r, "%w", err)
		}
	}
	return lines, nil
}

// Mark sets the errors of results in the records of a chunk, and returns the chunk.
func Mark(chunk input.Chunk, results []Result) input.Chunk {
	for i := range chunk {
		if r := &chunk[i]; isPair(r) {
			r.Err, results = results[0].Err, results[1:]
		}
	}
	return chunk
}

// isPair reports whether a record is one of chunk.Pairs.
func isPair(r *records.Record) bool { return r.Err == nil && !r.Header }
