// Package progress shows progress bars on a terminal.
package progress

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/mlxrank/mlxrank/cli/internal/output"
)

// drawEvery is the interval at which NewCounter's bar draws. Its moving clock shows
// that the program runs, even while the count does not change.
const drawEvery = time.Second

// A Bar shows progress on a terminal, without colours. Elsewhere it draws nothing. If
// the terminal closes, the bar ends and the work continues.
type Bar struct {
	w    io.Writer
	mu   sync.Mutex
	bar  *progressbar.ProgressBar // nil if the bar cannot be drawn
	done int64
	stop chan struct{} // ends drawAll
}

// New returns a bar of total steps, -1 for an unknown number. Only Draw draws it.
func New(w io.Writer, total int64, options ...progressbar.Option) *Bar {
	b := &Bar{w: w}
	if !CanDraw(w) {
		return b
	}
	b.bar = progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // keeps the library from drawing
		progressbar.OptionClearOnFinish(),
	}, options...)...)
	b.bar.StartWithoutRender() // otherwise the clock starts with the first drawing
	return b
}

// CanDraw reports whether w is a terminal that can show a bar.
func CanDraw(w io.Writer) bool { return output.IsTerminal(w) && os.Getenv("TERM") != "dumb" }

// NewCounter returns a bar that counts things of a kind, shows rate and remaining
// time, and draws itself every drawEvery.
func NewCounter(w io.Writer, what, kind string, total int) *Bar {
	b := New(w, int64(total),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetItsString(kind),
		progressbar.OptionShowIts(),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
	)
	if b.bar != nil {
		b.stop = make(chan struct{})
		go b.drawAll(b.stop)
	}
	return b
}

func (b *Bar) drawAll(stop chan struct{}) {
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			b.Draw()
		}
	}
}

// Draw draws the bar.
func (b *Bar) Draw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == nil || b.bar.GetMax64() == 0 {
		return
	}
	done := b.done
	if total := b.bar.GetMax64(); total > 0 {
		done = min(done, total-1) // the library never redraws a full bar
	}
	progressbar.OptionSetPredictTime(done > 0)(b.bar) // the library predicts 0 seconds before the first step
	if err := b.bar.Set64(done); err != nil {
		b.bar = nil // the terminal is gone
	}
}

// Add counts n more steps.
func (b *Bar) Add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += int64(n)
}

// Set sets the number of finished steps and the total.
func (b *Bar) Set(done, total int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = int64(done)
	if b.bar != nil && b.bar.GetMax() != total {
		b.bar.ChangeMax(total)
	}
}

// Describe sets the text in front of the bar.
func (b *Bar) Describe(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.bar.Describe(text)
	}
}

// Write removes the bar and writes data in its place. The next Draw shows the bar
// below the data.
func (b *Bar) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	return b.w.Write(data)
}

// End removes the bar permanently.
func (b *Bar) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		close(b.stop)
		b.stop = nil
	}
	b.clear()
	b.bar = nil
}

func (b *Bar) clear() {
	if b.bar != nil && b.bar.Clear() != nil {
		b.bar = nil // the terminal is gone
	}
}
