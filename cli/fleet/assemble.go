package fleet

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/fleet"
)

// An assembler writes the output of a job in the order of the input.
type assembler struct {
	*submission
	reader  *records.Reader
	lines   *scored.Lines
	results *fleet.Results
	written []writtenPart // parts in the output whose data the store still has
}

type writtenPart struct {
	part fleet.Part
	end  int // records of the output up to the part's end
}

// assemble writes the output as parts are finished.
func (r *submission) assemble(ctx context.Context, c *cli.Context, parts <-chan fleet.Part) (summary, error) {
	reader, err := r.pairs.Reader()
	if err != nil {
		return summary{}, err
	}
	if reader.HeaderLike {
		r.log.Warn().Msg(input.HeaderWarning)
	}
	a := &assembler{submission: r, reader: reader}
	format := scored.Format{Pairs: r.pairs, RunTag: c.String("run-tag"), TagGiven: c.IsSet("run-tag"), Log: r.log}
	if a.lines, r.out, err = format.Prepare(c.Context, r.out, reader); err != nil {
		return summary{}, err
	}
	settings := append(scored.TextSettings(c, r.pairs, reader.Format, r.long), scored.Setting{Name: jobSetting, Value: r.job.ID})
	earlier, err := r.out.Begin(settings)
	if err != nil {
		return summary{}, err
	}
	a.lines.Done = earlier.Tally
	if a.results, err = r.fleet.Results(ctx, r.job); err != nil {
		return summary{}, err
	}
	defer a.results.Close()
	stop := a.showProgress()
	defer stop()
	start := time.Now()
	if earlier.Input.Bytes > 0 {
		changed := fmt.Errorf("%s: %w", r.pairs.Name, errChanged)
		if err := reader.Skip(earlier.Input.Reader(), changed); err != nil {
			return summary{}, err
		}
	}
	if err := a.writeAll(ctx, parts, earlier.Input.Bytes); err != nil {
		return summary{}, err
	}
	if found := fmt.Sprintf("%x", reader.Position().Sum); found != r.job.Input.SHA256 {
		return summary{}, fmt.Errorf("read %s: %w", r.pairs.Name, errChanged)
	}
	return summary{Pairs: r.job.Input.Pairs, Skipped: a.lines.Done.Skipped, Elapsed: time.Since(start), Workers: a.results.Workers()}, nil
}

// writeAll writes the lines of each part that lies after the first bytes of the input,
// which an earlier run has written.
func (a *assembler) writeAll(ctx context.Context, parts <-chan fleet.Part, skip int64) error {
	cutter := a.cut(a.reader)
	for part := range parts {
		if part.To <= skip {
			continue
		}
		chunks, err := cutter.next()
		if err != nil {
			return err
		}
		if a.reader.Position().Offset != part.To {
			return fmt.Errorf("read %s: part %d ends at byte %d, expected %d: %w", a.pairs.Name, part.Index, a.reader.Position().Offset, part.To, errChanged)
		}
		if err := a.writePart(ctx, part, chunks); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// writePart writes the lines of a part when its scores are there.
func (a *assembler) writePart(ctx context.Context, part fleet.Part, chunks []input.Chunk) error {
	scores, err := a.results.Wait(ctx, part, pairsOf(chunks))
	if err != nil {
		return err
	}
	var lines []byte
	for _, chunk := range chunks {
		n := len(chunk.Pairs())
		if n > len(scores) {
			return fmt.Errorf("part %d has %d scores too few", part.Index, n-len(scores))
		}
		results := resultsOf(scores[:n])
		scores = scores[n:]
		if !a.skip {
			if err := scored.Mark(chunk, results).Check(a.reader); err != nil {
				return err
			}
		}
		more, err := a.lines.Render(chunk, results)
		if err != nil {
			return err
		}
		lines = append(lines, more...)
	}
	if err := a.out.WriteChunk(lines, scored.NewPosition(a.reader.Position()), a.lines.Done); err != nil {
		return err
	}
	a.written = append(a.written, writtenPart{part, a.lines.Done.Records})
	return a.release(ctx)
}

// releases is how many parts are removed at a time: the server syncs each removal.
const releases = 8

// release removes the data of parts whose lines are on the disk.
func (a *assembler) release(ctx context.Context) error {
	kept := scored.Kept(a.out)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(releases)
	for len(a.written) > 0 && a.written[0].end <= kept {
		part := a.written[0].part
		group.Go(func() error { return a.results.Release(ctx, part) })
		a.written = a.written[1:]
	}
	return group.Wait()
}

func resultsOf(scores []fleet.Score) []scored.Result {
	results := make([]scored.Result, len(scores))
	for i, s := range scores {
		results[i] = scored.Result{Score: s.Score, Logit: s.Logit}
		if s.Err != "" {
			results[i].Err = textError(s.Err)
		}
	}
	return results
}

// textError is a worker's reason why a pair has no score.
type textError string

func (e textError) Error() string { return string(e) }

// showProgress shows a bar of the pairs that workers have finished, until stop is called.
func (a *assembler) showProgress() (stop func()) {
	bar := a.notices.Progress("scoring", "pairs", max(a.job.Input.Pairs, 1))
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		warn := warner{log: a.log, since: time.Now(), refused: map[string]string{}}
		for {
			changed := a.results.Changed()
			a.describe(bar)
			warn.look(a.results)
			select {
			case <-changed:
			case <-time.After(5 * time.Second):
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-done
		bar.End()
	}
}

// describe shows what is finished, and by whom.
func (a *assembler) describe(bar *progress.Bar) {
	bar.Set(a.results.Progress().Pairs, max(a.job.Input.Pairs, 1))
	bar.Describe(fmt.Sprintf("job %s, %s", a.job.ID, output.Count(a.results.Present(), "worker", "workers")))
}

// patience is how long a job may have no worker before the user reads of it.
const patience = 15 * time.Second

// A warner warns when no worker takes parts of a job.
type warner struct {
	log     zerolog.Logger
	since   time.Time         // when a worker was last present
	refused map[string]string // reasons that were logged
}

func (w *warner) look(r *fleet.Results) {
	for name, reason := range r.Refused() {
		if w.refused[name] != reason {
			w.refused[name] = reason
			w.log.Warn().Str("worker", name).Str("reason", reason).Msg("the job does not admit a worker")
		}
	}
	if r.Present() > 0 {
		w.since = time.Now()
	}
	if !w.since.IsZero() && time.Since(w.since) > patience {
		w.since = time.Time{} // once
		w.log.Warn().Msg(describeAbsence(r.Busy()))
	}
}

// describeAbsence explains why a job has no worker while busy ones score other jobs.
func describeAbsence(busy int) string {
	if busy == 0 {
		return "no worker takes parts of the job; start one with mlxrank fleet work"
	}
	return fmt.Sprintf("the job waits while %s other jobs; mlxrank fleet work starts another worker", output.Count(busy, "worker scores", "workers score"))
}

// summary describes a finished job.
type summary struct {
	Pairs   int
	Skipped int
	Elapsed time.Duration
	Workers []string
}

// print logs the summary.
func (s summary) print(r *submission) {
	if s.Skipped > 0 {
		r.log.Warn().Int("skipped", s.Skipped).Msg("some lines could not be scored; --log-level info lists them with the reason")
	}
	text := fmt.Sprintf("%s in %s", output.Count(s.Pairs, "pair", "pairs"), s.Elapsed.Round(10*time.Millisecond))
	if s.Pairs > 0 && len(s.Workers) > 0 {
		text += fmt.Sprintf(": %.0f pairs/s on %s (%s)", float64(s.Pairs)/max(s.Elapsed.Seconds(), 1e-3),
			output.Count(len(s.Workers), "worker", "workers"), strings.Join(s.Workers, ", "))
	}
	r.notices.Line(text, map[string]any{
		"job": r.job.ID, "pairs": s.Pairs, "skipped": s.Skipped, "seconds": s.Elapsed.Seconds(), "workers": s.Workers,
	})
}
