package bench

import (
	"fmt"
	"io"
	"math"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"

	"github.com/mlxrank/mlxrank/bench"
	"github.com/mlxrank/mlxrank/cli/internal/progress"
)

// benchProgress shows the progress of a benchmark: a bar on a terminal, elsewhere
// lines in the log.
type benchProgress struct {
	log zerolog.Logger
	w   io.Writer     // of the log: above the bar, if there is one
	bar *progress.Bar // nil without a terminal
}

func newBenchProgress(w io.Writer) *benchProgress {
	if !progress.CanDraw(w) {
		return &benchProgress{w: w}
	}
	b := progress.New(w, 1,
		progressbar.OptionSetPredictTime(false), // the bar knows the current run only
		progressbar.OptionSetWidth(12),
	)
	return &benchProgress{w: b, bar: b}
}

// show takes a report of package bench.
func (p *benchProgress) show(b bench.Progress) {
	if p.bar == nil {
		p.line(b)
		return
	}
	done, total := b.Done, b.Total
	if b.Length > 0 {
		done, total = int(b.Elapsed.Milliseconds()), int(b.Length.Milliseconds())
	}
	p.bar.Describe(barText(b))
	p.bar.Set(max(0, done), max(1, total))
	p.bar.Draw()
}

func barText(b bench.Progress) string {
	return fmt.Sprintf("%d/%d %s: %.1f pairs/s, P50 %s P95 %s, ETA %s",
		b.Step, b.Steps, b.Label, b.PairsPerS, milliText(b.P50), milliText(b.P95), leftText(b.Left))
}

func milliText(ms float64) string {
	if math.IsNaN(ms) {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", ms)
}

func leftText(d time.Duration) string {
	if d < 0 {
		return "-"
	}
	return d.Round(time.Second).String()
}

// line logs a line.
func (p *benchProgress) line(b bench.Progress) {
	event := p.log.Info().Int("step", b.Step).Int("steps", b.Steps).Str("point", b.Label).
		Int("requests", b.Done).Float64("throughput_pairs_s", rounded(b.PairsPerS))
	if !math.IsNaN(b.P50) {
		event.Float64("latency_p50_ms", rounded(b.P50)).Float64("latency_p95_ms", rounded(b.P95))
	}
	if b.Left >= 0 {
		event.Float64("eta_s", math.Round(b.Left.Seconds()))
	}
	event.Msg("progress")
}

func rounded(x float64) float64 { return math.Round(x*10) / 10 }

// end removes the bar.
func (p *benchProgress) end() {
	if p.bar != nil {
		p.bar.End()
	}
}

// every returns the time between two reports: short on a terminal, ten seconds
// in the log, where each report adds a line.
func (p *benchProgress) every() time.Duration {
	if p.bar != nil {
		return 250 * time.Millisecond
	}
	return 10 * time.Second
}
