package scored

import (
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
)

// A Survey describes a whole input.
type Survey struct {
	Records int    // -1 if the input can be read only once
	Sum     []byte // SHA-256; nil if the input can be read only once
}

// Check reads the whole input if it can be read twice, and rewinds it. Without skip, it
// returns the error of the first record that has one, before any pair is scored.
func Check(p *input.Pairs, notices command.Notices, skip bool) (Survey, error) {
	if !p.Rewindable() {
		return Survey{Records: -1}, nil
	}
	reader, err := p.Reader()
	if err != nil {
		return Survey{}, err
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
