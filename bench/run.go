package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/plots"
	"github.com/mlxrank/mlxrank/bench/report"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/workload"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// ErrInput marks errors in the input of a benchmark, found before the first
// measurement: files, folders and settings that do not fit.
var ErrInput = errors.New("input")

// An inputError matches ErrInput and keeps the text of its error.
type inputError struct{ error }

func (e inputError) Is(target error) bool { return target == ErrInput }
func (e inputError) Unwrap() error        { return e.error }

// ErrFailed reports that points of an experiment failed. The other points stand.
var ErrFailed = errors.New("failed")

// Options configure a benchmark.
type Options struct {
	Folder   string // for the results
	Resume   bool   // continue earlier results
	Engine   engine.Config
	Program  string // version of the program
	Log      zerolog.Logger
	Server   *Server        // measured instead of an engine, if not nil
	Progress func(Progress) // called from a goroutine of its own; may be nil
	Every    time.Duration  // interval of Progress

	withoutPlots bool // for tests: drawing is slow under the race detector
}

// A session is one experiment with its results so far.
type session struct {
	Options
	experiment *experiment.Experiment
	files      results.Files
	workload   *workload.Workload
	result     *results.Result
	progress   *reporter
}

// Run measures the points of an experiment one after another and writes the
// results after each run. A failed point is recorded, the others continue, and the
// error at the end is ErrFailed. If ctx ends, complete runs are kept and the error
// is that of ctx.
func Run(ctx context.Context, e *experiment.Experiment, o Options) (*results.Result, error) {
	s, err := newSession(e, o)
	if err != nil {
		return nil, err
	}
	var steps []step
	for i := range s.result.Points {
		p := &s.result.Points[i]
		for run := len(p.Runs); run < p.Settings.Runs; run++ {
			steps = append(steps, s.step(p, run))
		}
	}
	s.progress = newReporter(o, steps)
	defer s.progress.close()
	for i := range s.result.Points {
		p := &s.result.Points[i]
		if err := s.measure(ctx, p, p.Settings.Runs); err != nil {
			return s.result, errors.Join(err, s.write())
		}
	}
	return s.result, s.finish()
}

// RunInTurns measures two experiments in alternating rounds: all points of the
// first, then all points of the second. So noise on the machine affects both
// equally.
func RunInTurns(ctx context.Context, experiments [2]*experiment.Experiment, rounds int, o Options) (r [2]*results.Result, err error) {
	if a, b := experiments[0].Name, experiments[1].Name; a == b {
		return r, inputError{fmt.Errorf("both experiments are named %s, so their results would overwrite each other; rename one", a)}
	}
	var sessions [2]*session
	var steps []step
	for i, e := range experiments {
		for k := range e.Points {
			e.Points[k].Runs = rounds
		}
		if sessions[i], err = newSession(e, o); err != nil {
			return r, err
		}
		r[i] = sessions[i].result
	}
	for round := range rounds {
		for _, s := range sessions {
			for i := range s.result.Points {
				steps = append(steps, s.step(&s.result.Points[i], round))
			}
		}
	}
	progress := newReporter(o, steps)
	defer progress.close()
	for round := range rounds {
		for _, s := range sessions {
			s.progress = progress
			for i := range s.result.Points {
				if err := s.measure(ctx, &s.result.Points[i], round+1); err != nil {
					return r, errors.Join(err, sessions[0].write(), sessions[1].write())
				}
			}
		}
	}
	return r, errors.Join(sessions[0].finish(), sessions[1].finish())
}

func newSession(e *experiment.Experiment, o Options) (*session, error) {
	s := &session{Options: o, experiment: e, files: results.Files{Dir: o.Folder, Name: e.Name}}
	if o.Server != nil {
		if err := e.OfServer(o.Server.names()); err != nil {
			return nil, inputError{err}
		}
	}
	if err := s.begin(); err != nil {
		return nil, inputError{err}
	}
	return s, nil
}

func (s *session) step(p *results.Point, run int) step {
	label := s.result.Name + ", " + p.Settings.Label(s.result.Swept)
	if p.Settings.Runs > 1 {
		label += fmt.Sprintf(", run %d of %d", run+1, p.Settings.Runs)
	}
	return step{point: p, run: run, settings: p.Settings, label: label}
}

// finish writes everything after the last measurement.
func (s *session) finish() error {
	now := time.Now()
	s.result.Finished = &now
	if err := s.write(); err != nil {
		return err
	}
	return failures(s.result)
}

func failures(r *results.Result) error {
	n := 0
	first := ""
	for _, p := range r.Points {
		if p.Error != "" {
			if n++; n == 1 {
				first = p.Settings.Label(r.Swept) + ": " + p.Error
			}
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d points %w: %s", n, len(r.Points), ErrFailed, first)
}

// begin reads the workload and keeps or resumes earlier results.
func (s *session) begin() (err error) {
	if err := s.files.Prepare(); err != nil {
		return err
	}
	first := s.experiment.Points[0]
	if s.workload, err = workload.Open(first.Dataset, first.DatasetSize); err != nil {
		return err
	}
	for _, p := range s.experiment.Points {
		if p.Batch > len(s.workload.Pairs) {
			return fmt.Errorf("batch: %d, but dataset %s has only %d pairs, so a request would repeat pairs; use a smaller batch", p.Batch, first.Dataset, len(s.workload.Pairs))
		}
	}
	s.result = &results.Result{
		Schema: results.Schema, Name: s.experiment.Name, Description: s.experiment.Description,
		Started: time.Now(), Swept: s.experiment.Swept, Environment: environment(s.Program, s.Log),
	}
	for _, p := range s.experiment.Points {
		s.result.Points = append(s.result.Points, results.Point{Settings: p})
	}
	if s.Server != nil {
		s.result.Environment.Server = s.Server.describe(first.Model, s.Log)
	}
	if s.Resume {
		return s.resume()
	}
	kept, err := s.files.Keep()
	if kept != "" {
		s.Log.Info().Str("folder", kept).Msg("earlier results kept")
	}
	return err
}

// resume continues earlier results, if there are any.
func (s *session) resume() error {
	earlier, err := results.Read(s.files.JSON())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	same := slices.EqualFunc(earlier.Points, s.result.Points, func(a, b results.Point) bool { return a.Settings == b.Settings })
	if !same {
		return fmt.Errorf("%s holds results of another experiment; run without --resume, which keeps that file", s.files.JSON())
	}
	// Another version may measure differently, and another machine does.
	if a, b := earlier.Environment, s.result.Environment; a.Program != b.Program || a.Chip != b.Chip || a.Cores != b.Cores {
		return fmt.Errorf("%s is from mlxrank %s on %d cores of %s, this is %s on %d cores of %s; run without --resume, which keeps that file",
			s.files.JSON(), a.Program, a.Cores, a.Chip, b.Program, b.Cores, b.Chip)
	}
	if a, b := earlier.Environment.Server, s.result.Environment.Server; !a.Same(b) {
		return fmt.Errorf("%s measured %s, this run measures %s; run without --resume, which keeps that file", s.files.JSON(), a, b)
	}
	for i := range earlier.Points {
		earlier.Points[i].Error = "" // tried again
	}
	earlier.Finished = nil
	s.result = earlier
	return nil
}

// measure measures a point until it has the given number of runs. It records the
// failure of a point; an error that it returns ends the experiment.
func (s *session) measure(ctx context.Context, p *results.Point, runs int) error {
	if p.Error != "" || len(p.Runs) >= runs {
		return nil
	}
	err := s.runPoint(ctx, p, runs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		p.Error = err.Error()
		s.Log.Error().Err(err).Str("point", p.Settings.Label(s.result.Swept)).Msg("point failed")
	}
	return s.writeReport(nil)
}

// runPoint opens an engine, warms it up and measures the remaining runs.
func (s *session) runPoint(ctx context.Context, p *results.Point, runs int) (err error) {
	t, err := s.open(ctx, p.Settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close(ctx)) }()
	p.Engine = t.about()
	if err := warmUp(ctx, t, p.Settings.Warmup); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	for len(p.Runs) < runs {
		run, err := s.runOnce(ctx, t, p)
		if err != nil {
			return err
		}
		p.Runs = append(p.Runs, *run)
		// Written at once, so that at most one run is lost. An error here recurs
		// after the point and ends the experiment there.
		if err := results.Write(s.files.JSON(), s.result); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) open(ctx context.Context, settings experiment.Settings) (target, error) {
	if s.Server != nil {
		return newServerTarget(s.Server, settings, s.workload), nil
	}
	return openTarget(ctx, s.Engine, settings, s.workload)
}

// warmUp sends requests that are not recorded. A server must answer at least one
// of them with scores.
func warmUp(ctx context.Context, t target, requests int) error {
	answered := false
	var last *miss
	for k := range requests {
		switch _, err := t.do(ctx, k); {
		case err == nil:
			answered = true
		case errors.As(err, &last):
			telemetry.SleepUntil(ctx, time.Now().Add(last.after))
		default:
			return err
		}
	}
	if last != nil && !answered {
		return last
	}
	return ctx.Err()
}

// runOnce measures one run.
func (s *session) runOnce(ctx context.Context, t target, p *results.Point) (*results.Run, error) {
	l := &load{settings: p.Settings, do: t.do}
	complete, err := t.watch()
	if err != nil {
		return nil, err
	}
	run := &results.Run{Started: time.Now(), LoadBefore: loadAverage(s.Log)}
	watcher := startSampler(t.read)
	l.start = watcher.start // one clock for both
	s.progress.begin(p, len(p.Runs), l)
	err = l.run(ctx)
	s.progress.end()
	wall := time.Since(l.start)
	run.Samples = watcher.finish(l.requests)
	if err != nil {
		return nil, err
	}
	run.WallMS = telemetry.Milliseconds(wall)
	run.LoadAfter = loadAverage(s.Log)
	run.Requests = l.requests
	if l.refused > 0 {
		run.Refused, run.Refusal = l.refused, l.refusal.Error()
	}
	if l.failed > 0 {
		run.Failed, run.Failure = l.failed, l.failure.Error()
	}
	return run, complete(run)
}

// write writes results, plots and report.
func (s *session) write() error {
	var drawn []report.Plot
	if !s.withoutPlots {
		var err error
		if drawn, err = plots.Draw(s.result, s.files.Plots()); err != nil {
			return err
		}
	}
	return s.writeReport(drawn)
}

// writeReport writes results and report. Before the end the report has no plots.
func (s *session) writeReport(drawn []report.Plot) error {
	if err := results.Write(s.files.JSON(), s.result); err != nil {
		return err
	}
	return results.WriteFile(s.files.Report(), report.Markdown(s.result, drawn))
}
