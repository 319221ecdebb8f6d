package cli

import (
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// drawEvery is how often a bar is drawn, whether or not work got done: a time
// that moves shows that the program does.
const drawEvery = time.Second

// progress is a bar on a terminal, without colours: how far the work is, at
// which rate, and when it will be done. Anywhere else it is nothing. A terminal
// that is gone ends the bar and not the work.
type progress struct {
	mu   sync.Mutex
	bar  *progressbar.ProgressBar // nil for none
	done int
	stop chan struct{}
}

// newProgress starts a bar over total things of a kind, -1 if nobody knows how
// many there are.
func newProgress(w io.Writer, what, kind string, total int) *progress {
	if !isTerminal(w) || os.Getenv("TERM") == "dumb" {
		return &progress{}
	}
	p := &progress{stop: make(chan struct{}), bar: progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetItsString(kind),
		progressbar.OptionShowIts(),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionUseANSICodes(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // nothing is drawn but by draw
		progressbar.OptionClearOnFinish(),
	)}
	p.bar.StartWithoutRender() // or the clock would start with the first drawing
	go p.drawAll(p.stop)
	return p
}

// drawAll draws until the bar ends.
func (p *progress) drawAll(stop chan struct{}) {
	ticker := time.NewTicker(drawEvery)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			p.draw()
		}
	}
}

func (p *progress) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil || p.bar.GetMax() == 0 {
		return
	}
	if err := p.bar.Set(p.done); err != nil {
		p.bar = nil // the terminal is gone
	}
}

// add says that n more are done.
func (p *progress) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
}

// set says how many of how many are done.
func (p *progress) set(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = done
	if p.bar != nil && p.bar.GetMax() != total {
		p.bar.ChangeMax(total)
	}
}

// end removes the bar.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop != nil {
		close(p.stop)
		p.stop = nil
	}
	if p.bar == nil {
		return
	}
	if err := p.bar.Clear(); err != nil {
		p.bar = nil // the terminal is gone, and the bar with it
	}
}
