package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/weights"
)

// downloads shows how far the download of a model is: by a bar on a terminal,
// and elsewhere by a line for each file that is complete. They have no colours.
type downloads struct {
	mu    sync.Mutex
	w     io.Writer
	bar   *progressbar.ProgressBar // nil when there is none to be seen
	files map[string]weights.Progress
	over  bool // after end, or when w cannot be written
}

const downloadsKey = "downloads"

// downloadsOf returns those of a run, where any command finds them.
func downloadsOf(app *cli.App) *downloads { return app.Metadata[downloadsKey].(*downloads) }

func newDownloads(w io.Writer) *downloads {
	return &downloads{w: w, files: map[string]weights.Progress{}}
}

// report takes a report of package weights.
func (d *downloads) report(p weights.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.files[p.Model+"/"+p.File] = p
	var err error
	switch {
	case isTerminal(d.w) && os.Getenv("TERM") != "dumb":
		err = d.draw(p.Model)
	case p.Done == p.Total:
		_, err = fmt.Fprintf(d.w, "downloaded %s of %s, %s\n", p.File, p.Model, bytesText(p.Total))
	}
	d.over = err != nil // the terminal is gone, and the download goes on
}

// draw brings the bar, which stands for all files together, up to date.
func (d *downloads) draw(model string) error {
	var done, total int64
	for _, p := range d.files {
		done, total = done+p.Done, total+p.Total
	}
	if d.bar == nil {
		d.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(d.w), progressbar.OptionSetDescription(model),
			progressbar.OptionShowBytes(true), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
			progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionUseANSICodes(true),
			progressbar.OptionClearOnFinish())
	}
	if d.bar.GetMax64() != total {
		d.bar.ChangeMax64(total)
	}
	err := d.bar.Set64(done)
	if done == total {
		d.bar, d.files = nil, map[string]weights.Progress{}
	}
	return err
}

// warn shows what the user should know of a download that goes on.
func (d *downloads) warn(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.bar != nil && d.bar.Clear() != nil {
		return
	}
	_, err := fmt.Fprintf(d.w, "mlxrank: warning: %s\n", text)
	d.over = d.over || err != nil
}

// end leaves the line to others.
func (d *downloads) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.bar == nil {
		return
	}
	if err := d.bar.Clear(); err != nil {
		return // nor can the error be shown
	}
	d.bar = nil
}

// bytesText writes a number of bytes as people do, in powers of 1,000.
func bytesText(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value := float64(n)
	for _, unit := range []string{"kB", "MB", "GB"} {
		if value /= 1000; value < 999.95 {
			return fmt.Sprintf("%.1f %s", value, unit)
		}
	}
	return fmt.Sprintf("%.1f TB", value/1000)
}
