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

// drawEvery is the time between two drawings of a bar that draws by itself. The
// moving clock shows that the program runs, even while the count stands still.
const drawEvery = time.Second

// A Bar shows progress on a terminal, without colours. Elsewhere it does nothing.
// When the terminal goes away, the bar ends and the work continues.
type Bar struct {
	w    io.Writer
	mu   sync.Mutex
	bar  *progressbar.ProgressBar // nil if there is nothing to draw on
	done int64
	stop chan struct{} // ends drawAll
}

// New returns a bar of total steps, or of an unknown number if total is -1.
// It is drawn by draw only.
func New(w io.Writer, total int64, options ...progressbar.Option) *Bar {
	b := &Bar{w: w}
	if !CanDraw(w) {
		return b
	}
	b.bar = progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // the library must not draw on its own
		progressbar.OptionClearOnFinish(),
	}, options...)...)
	b.bar.StartWithoutRender() // otherwise the clock starts with the first drawing
	return b
}

// CanDraw reports whether w is a terminal that can show a bar.
func CanDraw(w io.Writer) bool { return output.IsTerminal(w) && os.Getenv("TERM") != "dumb" }

// NewCounter returns a bar that counts things of a kind, with rate and
// remaining time, and draws itself every drawEvery.
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

func (b *Bar) Draw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == nil || b.bar.GetMax64() == 0 {
		return
	}
	done := b.done
	if total := b.bar.GetMax64(); total > 0 {
		done = min(done, total-1) // a bar that reaches its end is never drawn again
	}
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

// Set sets how many of how many steps are done.
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

// Write removes the bar, so that data takes its line, and writes data to the
// terminal. The next drawing shows the bar below.
func (b *Bar) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clear()
	return b.w.Write(data)
}

// End removes the bar for good.
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
