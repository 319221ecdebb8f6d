package cli

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar on a terminal, without colours: how far the work is, at
// which rate, and when it will be done. Anywhere else it is nothing.
type progress struct {
	bar *progressbar.ProgressBar // nil for none
}

// newProgress starts a bar over total things of a kind, -1 if nobody knows how
// many there are.
func newProgress(w io.Writer, what, kind string, total int) *progress {
	if !isTerminal(w) || os.Getenv("TERM") == "dumb" {
		return &progress{}
	}
	bar := progressbar.NewOptions(total,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetItsString(kind),
		progressbar.OptionShowIts(),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionUseANSICodes(false),
		progressbar.OptionSetSpinnerChangeInterval(0), // nothing is drawn but by add
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	bar.StartWithoutRender() // or the clock would start with the first add
	return &progress{bar}
}

// add says that n more are done.
func (p *progress) add(n int) error {
	if p.bar == nil {
		return nil
	}
	return p.bar.Add(n)
}

// end removes the bar.
func (p *progress) end() error {
	if p.bar == nil {
		return nil
	}
	return p.bar.Clear()
}
