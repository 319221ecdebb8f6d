package scored

import (
	"fmt"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
)

// A Survey describes an input, or a range of it.
type Survey struct {
	Records int    // -1 if the input can be read only once
	Sum     []byte // SHA-256 of the input up to the end; nil if the input can be read only once
}

// Check reads the whole input, or a range of it, if it can be read twice, and rewinds
// it. Without skip, it returns the error of the first record that has one, before any
// pair is scored.
func Check(p *input.Pairs, within *input.Range, notices command.Notices, skip bool) (Survey, error) {
	if !p.Rewindable() {
		return Survey{Records: -1}, nil
	}
	reader, err := p.Reader()
	if err != nil {
		return Survey{}, err
	}
	if within != nil {
		if err := within.Enter(reader, within.Start, fmt.Errorf("read %s: %w", p.Name, input.ErrChanged)); err != nil {
			return Survey{}, err
		}
	}
	bar := notices.Progress("checking", "lines", -1)
	defer bar.End()
	chunks := input.NewChunks(reader)
	var s Survey
	for {
		chunk, err := chunks.Next()
		if err != nil {
			return Survey{}, err
		}
		if len(chunk) == 0 {
			break
		}
		if err := chunk.Check(reader); err != nil && !skip {
			return Survey{}, err
		}
		s.Records += len(chunk)
		bar.Add(len(chunk))
	}
	s.Sum = reader.Position().Sum
	p.Options.Format = reader.Format
	return s, p.Rewind()
}
