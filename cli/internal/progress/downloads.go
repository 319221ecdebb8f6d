package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/weights"
)

// Downloads shows the progress of a model's download: a bar on a terminal, elsewhere
// a line for each complete file.
type Downloads struct {
	mu    sync.Mutex
	w     io.Writer
	bar   *Bar // nil between downloads
	files map[string]weights.Progress
	over  bool // after End, or if w cannot be written
}

// NewDownloads returns the progress of downloads on w.
func NewDownloads(w io.Writer) *Downloads {
	return &Downloads{w: w, files: map[string]weights.Progress{}}
}

// Report shows the progress of a file.
func (d *Downloads) Report(p weights.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over {
		return
	}
	d.files[p.Model+"/"+p.File] = p
	if CanDraw(d.w) {
		d.draw(p.Model)
	} else if p.Done == p.Total {
		_, err := fmt.Fprintf(d.w, "downloaded %s of %s, %s\n", p.File, p.Model, output.Bytes(p.Total))
		d.over = err != nil // the reader is gone, but the download continues
	}
}

// draw updates the bar, which counts the bytes of all files.
func (d *Downloads) draw(model string) {
	var done, total int64
	for _, p := range d.files {
		done, total = done+p.Done, total+p.Total
	}
	if d.bar == nil {
		d.bar = New(d.w, total,
			progressbar.OptionSetDescription(model), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	d.bar.Set(int(done), int(total))
	d.bar.Draw()
	if done == total {
		d.bar.End()
		d.bar, d.files = nil, map[string]weights.Progress{}
	}
}

// Warn prints a warning about a download that continues.
func (d *Downloads) Warn(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.w
	if d.bar != nil {
		w = d.bar
	}
	_, err := fmt.Fprintf(w, "mlxrank: warning: %s\n", text)
	d.over = d.over || err != nil
}

// End removes the bar. Later reports are ignored.
func (d *Downloads) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.bar != nil {
		d.bar.End()
		d.bar = nil
	}
}
