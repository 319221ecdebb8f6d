package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/weights"
)

// downloads shows the progress of a model's download: a bar on a terminal,
// elsewhere a line for each complete file.
type downloads struct {
	mu    sync.Mutex
	w     io.Writer
	bar   *bar // nil between downloads
	files map[string]weights.Progress
	over  bool // after end, or when w cannot be written
}

const downloadsKey = "downloads"

// downloadsOf returns the downloads of a run, which every command shares.
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
	if canDraw(d.w) {
		d.draw(p.Model)
	} else if p.Done == p.Total {
		_, err := fmt.Fprintf(d.w, "downloaded %s of %s, %s\n", p.File, p.Model, bytesText(p.Total))
		d.over = err != nil // the reader is gone, but the download continues
	}
}

// draw updates the bar, which counts the bytes of all files together.
func (d *downloads) draw(model string) {
	var done, total int64
	for _, p := range d.files {
		done, total = done+p.Done, total+p.Total
	}
	if d.bar == nil {
		d.bar = newBar(d.w, total,
			progressbar.OptionSetDescription(model), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	d.bar.set(int(done), int(total))
	d.bar.draw()
	if done == total {
		d.bar.end()
		d.bar, d.files = nil, map[string]weights.Progress{}
	}
}

// warn prints a warning about a download that continues.
func (d *downloads) warn(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.w
	if d.bar != nil {
		w = d.bar
	}
	_, err := fmt.Fprintf(w, "mlxrank: warning: %s\n", text)
	d.over = d.over || err != nil
}

// end removes the bar. Later reports are ignored.
func (d *downloads) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.bar != nil {
		d.bar.end()
		d.bar = nil
	}
}

// bytesText formats a number of bytes with a decimal unit.
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
