package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// An evaluation holds what one run of eval found.
type evaluation struct {
	*options
	*collection
	report      report
	before      []values // by measure
	leastJudged judgedShare
	failed      error // of some configurations and files; the report is printed all the same
}

// start measures the first stage and describes the collection.
func (e *evaluation) start() (err error) {
	if e.before, err = e.evaluate(e.first.run); err != nil {
		return err
	}
	e.report.Configurations = []*configuration{}
	e.report.FirstStage.Name = e.first.name
	for m, v := range e.before {
		e.report.FirstStage.Measures = append(e.report.FirstStage.Measures, measureMean{e.measures[m].String(), v.mean, v.lowest, v.highest, v.ceiling})
	}
	e.countJudged(e.first.name, e.first.run)
	switch e.order {
	case records.Unordered:
		e.report.Warnings = append(e.report.Warnings, "the candidates have no order: the values before are of the order of their ids")
	case records.ByPosition:
		e.report.Warnings = append(e.report.Warnings, "the candidates have no scores: the values before are of their order in the file")
	}
	f := &e.report.Collection
	*f = facts{
		Queries: len(e.queries), JudgedQueries: len(e.qrels), Candidates: e.pairsBetween(0, e.longest()),
		MissingQueries: e.missing(e.first), UnjudgedQueries: e.unjudged(e.first), OnlyJudged: e.onlyJudged, Order: string(e.order),
	}
	for _, judged := range e.qrels {
		f.Judgements += len(judged)
		for _, relevance := range judged {
			if relevance > 0 {
				f.Relevant++
			}
		}
	}
	return nil
}

// compareRuns compares the other runs with the first.
func (e *evaluation) compareRuns() error {
	for _, r := range e.others {
		config := &configuration{Name: r.name, Missing: e.missing(r)}
		if err := e.compare(config, r.run); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		for m := range config.Measures {
			config.Measures[m].Ceiling = &config.after[m].ceiling
		}
		e.countJudged(r.name, r.run)
		e.report.Configurations = append(e.report.Configurations, config)
	}
	return nil
}

// rerankAll opens one model after the other and compares its rankings with the first
// stage.
func (e *evaluation) rerankAll(ctx context.Context) error {
	depths := e.chosenDepths()
	for _, config := range e.configs {
		err := e.rerank(ctx, config, depths)
		if err == nil {
			continue
		}
		if len(e.configs) == 1 || ctx.Err() != nil {
			return err
		}
		// The other configurations may have taken hours.
		e.failed = errors.Join(e.failed, fmt.Errorf("%s, %s: %w", config.Model, config.DType, err))
		e.report.Failed = append(e.report.Failed, failure{config.Model, string(config.DType), config.MaxLength, err.Error()})
	}
	if len(e.report.Failed) == len(e.configs) {
		return e.failed
	}
	return nil
}

// rerank opens a model, compares its rankings with the first stage, and closes it.
func (e *evaluation) rerank(ctx context.Context, config engine.Config, depths []int) (err error) {
	model, err := engine.Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, command.CloseEngine(ctx, model, config.Logger)) }()
	if same := e.configuration(model.Info()); same != nil {
		config.Logger.Warn().Str("configuration", same.Name).Msg("two combinations of flags give the same configuration; it is evaluated once")
		return nil
	}
	if err := model.Ready(ctx); err != nil {
		return err
	}
	s, err := e.score(ctx, model, depths)
	if err != nil {
		return err
	}
	if err := e.add(s, model); err != nil {
		return err
	}
	e.notices.Summary(s.facts)
	return nil
}

// configuration returns the configuration that an engine has, or nil. Lists such as
// auto,float32 can give the same one twice.
func (e *evaluation) configuration(info engine.Info) *configuration {
	for _, config := range e.report.Configurations {
		if config.Model == info.Model && config.DType == string(info.DType) && config.MaxLength == info.MaxLength {
			return config
		}
	}
	return nil
}

// chosenDepths returns the depths of --depth, or the default ones, of which those
// beyond the longest list of candidates become its length. Candidates without an order
// have no first ones, so that all are reranked.
func (e *evaluation) chosenDepths() []int {
	depths, longest := slices.Clone(e.depths), e.longest()
	switch {
	case len(depths) > 0:
	case e.order == records.Unordered:
		depths = []int{longest}
	default:
		depths = slices.Clone(defaultDepths)
	}
	slices.Sort(depths)
	for i := range depths {
		depths[i] = min(depths[i], longest)
	}
	return slices.Compact(depths)
}

// add compares the rankings of a scored configuration with the first stage.
func (e *evaluation) add(s *scored, model *engine.Engine) error {
	config := &configuration{
		Name: s.name(), Model: s.facts.Model, DType: s.facts.DType, MaxLength: s.facts.MaxLength,
		Run: s.facts, scored: s,
	}
	var run measures.Run
	for at, step := range s.steps {
		config.Depth, run = step.depth, e.reranked(s, step.depth)
		if err := e.compare(config, run); err != nil { // the measures of the deepest stay
			return err
		}
		config.Depths = append(config.Depths, s.point(at, len(e.queries)-e.missing(e.first), config.Measures))
	}
	if err := e.addCeilings(config); err != nil {
		return err
	}
	e.countJudged(config.Name, run)
	var err error
	if e.examples > 0 {
		if config.Examples, err = e.findExamples(config, run, e.examples); err != nil {
			return err
		}
	}
	if e.thresholds || e.calibration != "" {
		if err := e.findThresholds(config); err != nil {
			return err
		}
	}
	e.report.Configurations = append(e.report.Configurations, config)
	if e.writeRun != "" {
		e.failed = errors.Join(e.failed, writeFile(e.writeRun, func(w io.Writer) error { return writeRun(w, e.queries, run) }))
	}
	if e.calibration != "" {
		e.failed = errors.Join(e.failed, e.calibrate(config, model))
	}
	return nil
}

// point returns the point of the depth curve with the index at. queries counts the
// queries that have candidates.
func (s *scored) point(at, queries int, measures []comparison) depthPoint {
	d := depthPoint{Depth: s.steps[at].depth}
	for _, step := range s.steps[:at+1] {
		d.Pairs += step.pairs
		d.Seconds += step.time.Seconds()
	}
	d.MS = d.Seconds * 1000 / float64(queries)
	if d.Seconds > 0 {
		d.PairsS = float64(d.Pairs) / d.Seconds
	}
	for _, m := range measures {
		d.Measures = append(d.Measures, depthMean{m.Measure, m.After, m.Difference, m.Low, m.High})
	}
	return d
}

// speed returns the pairs per second over all depths.
func (c *configuration) speed() float64 { return c.Depths[len(c.Depths)-1].PairsS }

// name returns the name of the configuration.
func (s *scored) name() string {
	return fmt.Sprintf("%s, %s, %d tokens", s.facts.Model, s.facts.DType, s.facts.MaxLength)
}

// shortName returns the name of the configuration for a legend.
func (c *configuration) shortName() string {
	return fmt.Sprintf("%s %s %d", shortName(c.Model), c.DType, c.MaxLength)
}

// shortName returns a model's name without its directory or organisation.
func shortName(model string) string { return filepath.Base(model) }

// Warnings about judgements: judgedDepth is how many first documents count, and
// enoughJudged the share of judged ones below which measures say little.
const (
	judgedDepth  = 10
	enoughJudged = 0.5
)

// judged returns the share of judged documents among the first ones of a run.
func (e *evaluation) judged(run measures.Run) float64 {
	judged, all := 0, 0
	for _, id := range e.queries {
		list := measures.Rank(run[id])
		for _, d := range list[:min(judgedDepth, len(list))] {
			if _, ok := e.qrels[id][d.ID]; ok {
				judged++
			}
			all++
		}
	}
	return float64(judged) / float64(max(all, 1))
}

// countJudged keeps the smallest share of judged documents of all runs.
func (e *evaluation) countJudged(name string, run measures.Run) {
	if share := e.judged(run); e.leastJudged.name == "" || share < e.leastJudged.share {
		e.leastJudged = judgedShare{name, share}
	}
}

type judgedShare struct {
	name  string
	share float64
}

// warn adds a warning if few of the first documents of a run are judged.
func (e *evaluation) warn() {
	if l := e.leastJudged; l.share < enoughJudged {
		e.report.Warnings = append(e.report.Warnings, fmt.Sprintf("%.0f %% of the first %d documents of %s are judged; the others count as not relevant, even if they answer the query",
			100*l.share, judgedDepth, l.name))
	}
}

// writeFiles writes the files of --per-query and --plot.
func (e *evaluation) writeFiles() (errs error) {
	if e.perQuery != "" && e.perQuery != "-" {
		errs = writeFile(e.perQuery, e.writePerQuery)
	}
	return errors.Join(errs, e.writePlot())
}

// writePlot writes the file of --plot.
func (e *evaluation) writePlot() error {
	if e.plot == "" {
		return nil
	}
	data, err := e.drawPlot()
	if err != nil {
		return err
	}
	return writeFile(e.plot, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// calibrate writes the calibration that fits the judgements.
func (e *evaluation) calibrate(config *configuration, model *engine.Engine) error {
	t := config.Thresholds
	if t.Calibration == nil {
		return fmt.Errorf("--write-calibration: %s", t.NoFit)
	}
	if f := t.Calibration; f.worse() {
		return fmt.Errorf("--write-calibration: %s is not written: the log loss would be %.4f, and without a calibration it is %.4f; %s are too few, give more labelled pairs",
			e.calibration, f.LossAfter, f.LossBefore, output.Count(t.Pairs, "pair", "pairs"))
	}
	c, err := model.NewCalibration(t.Calibration.Temperature, t.Calibration.Shift)
	if err != nil {
		return fmt.Errorf("--write-calibration: %w", err)
	}
	c.Pairs, c.Relevant, c.LossBefore, c.LossAfter = t.Pairs, t.Relevant.N, t.Calibration.LossBefore, t.Calibration.LossAfter
	return c.Write(e.calibration)
}
