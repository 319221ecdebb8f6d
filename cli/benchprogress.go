package cli

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"

	"github.com/mlxrank/mlxrank/bench"
)

// benchProgress shows how far a benchmark is: by a bar on a terminal, without
// colours, else by lines in the log.
type benchProgress struct {
	log zerolog.Logger

	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar // nil without a terminal
}

func newBenchProgress(w io.Writer) *benchProgress {
	p := &benchProgress{w: w}
	if !isTerminal(w) || os.Getenv("TERM") == "dumb" {
		return p
	}
	p.bar = progressbar.NewOptions64(1,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetPredictTime(false), // it knows of one run only
		progressbar.OptionUseANSICodes(false),
		progressbar.OptionSetWidth(12),
		progressbar.OptionClearOnFinish(),
	)
	return p
}

// tell takes a report of package bench.
func (p *benchProgress) tell(b bench.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		p.line(b)
		return
	}
	done, total := int64(b.Done), int64(b.Total)
	if b.Length > 0 {
		done, total = b.Elapsed.Milliseconds(), b.Length.Milliseconds()
	}
	p.bar.ChangeMax64(max(1, total))
	p.bar.Describe(barText(b))
	// The bar must not reach its end, or it would be gone for good.
	if err := p.bar.Set64(max(0, min(done, total-1))); err != nil {
		p.log.Debug().Err(err).Msg("progress bar")
	}
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

// line is a line of the log.
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
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *benchProgress) clear() {
	if p.bar == nil {
		return
	}
	if err := p.bar.Clear(); err != nil {
		p.bar = nil // the terminal is gone
	}
}

// above is where the log goes: to the same place as the bar, which gives way.
func (p *benchProgress) above() io.Writer {
	if p.bar == nil {
		return p.w
	}
	return aboveBar{p}
}

type aboveBar struct{ p *benchProgress }

func (a aboveBar) Write(data []byte) (int, error) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.p.clear()
	return a.p.w.Write(data)
}
