package score

import (
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
)

// partOf returns the part that --part selects, or nil without the flag.
func partOf(c *cli.Context) (*input.Part, error) {
	if !c.IsSet("part") {
		return nil, nil
	}
	part, err := input.ParsePart(c.String("part"))
	return &part, err
}

// findPart finds and checks the part of the input. If the scores of a chunk depend on its
// pairs, the part consists of the chunks that a run of the whole input would form.
func (s *scoring) findPart() error {
	var prepare func(*input.Chunks)
	if info := s.engine.Info(); !input.ExactAlone(info) {
		prepare = func(chunks *input.Chunks) { chunks.WorkFor(info, s.long) }
	}
	unit := "MiB"
	if s.pairs.Parquet != nil {
		unit = "Mi rows"
	}
	bar := s.notices.Progress("finding the part", unit, -1)
	within, err := s.pairs.Range(*s.part, prepare, func(done, size int64) { bar.Set(int(done>>20), int(size>>20)) })
	bar.End()
	if err != nil {
		return err
	}
	s.within = &within
	s.survey, err = scored.Check(s.pairs, s.within, s.notices, s.skip)
	return err
}

// partSettings lists the settings of a manifest.
func (s *scoring) partSettings(c *cli.Context) ([]scored.Setting, error) {
	list, err := scored.PartSettings(scored.TextSettings(c, s.pairs, s.reader.Format, s.long), s.engine)
	if info := s.engine.Info(); err == nil && !input.ExactAlone(info) {
		list = append(list, batchSettings(c, info)...)
	}
	return list, err
}
