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

// benchProgress shows the progress of a benchmark as a bar on a terminal, or else as
// lines of the log.
type benchProgress struct {
	log zerolog.Logger
	w   io.Writer     // of the log, which is printed above the bar
	bar *progress.Bar // nil without a terminal
}

func newBenchProgress(w io.Writer) *benchProgress {
	if !progress.CanDraw(w) {
		return &benchProgress{w: w}
	}
	b := progress.New(w, 1,
		progressbar.OptionSetPredictTime(false), // the bar would predict the current run only
		progressbar.OptionSetWidth(12),
	)
	return &benchProgress{w: b, bar: b}
}

// show draws the bar or logs a line.
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

// barText describes the progress next to the bar.
func barText(b bench.Progress) string {
	ms := func(v float64) string {
		if math.IsNaN(v) {
			return "-"
		}
		return fmt.Sprintf("%.1f ms", v)
	}
	left := "-"
	if b.Left >= 0 {
		left = b.Left.Round(time.Second).String()
	}
	return fmt.Sprintf("%d/%d %s: %.1f pairs/s, P50 %s P95 %s, ETA %s", b.Step, b.Steps, b.Label, b.PairsPerS, ms(b.P50), ms(b.P95), left)
}

// line logs the progress.
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

// rounded rounds to one decimal.
func rounded(x float64) float64 { return math.Round(x*10) / 10 }

// end removes the bar.
func (p *benchProgress) end() {
	if p.bar != nil {
		p.bar.End()
	}
}

// logEvery is the time between two reports in the log, where each adds a line. It is
// a variable so that a test can shorten it.
var logEvery = 10 * time.Second

// every returns the time between two reports.
func (p *benchProgress) every() time.Duration {
	if p.bar != nil {
		return 250 * time.Millisecond
	}
	return logEvery
}
