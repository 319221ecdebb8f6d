package dashboard

import (
	"fmt"
	"net/http"
	"time"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// export serves content as a file to download.
func (d *Dashboard) export(extension, kind string, content func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		name := "mlxrank-dashboard-" + time.Now().Format("20060102-150405") + "." + extension
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
		write(w, content())
	}
}

// exportJSON returns the data that the page shows.
func (d *Dashboard) exportJSON() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(d.snapshot(), '\n')
}

// exportMarkdown returns the two sections that a benchmark's report has too.
func (d *Dashboard) exportMarkdown() []byte {
	d.mu.Lock()
	samples := d.ring.samples()
	d.mu.Unlock()
	info := d.engine.Info()
	cpu := info.Device == "cpu"
	return fmt.Appendf(nil, `# mlxrank dashboard

**Timestamp:** %s

**Model:** `+"`%s`"+`

**Backend:** `+"`mlx`"+` | **Device:** `+"`%s`"+`

## Dashboard Metrics Summary

%s
## Dashboard Time-Series Data

%s
_%s_
`, time.Now().Format("2006-01-02 15:04:05"), info.Model, info.Device,
		telemetry.SummaryTable(samples, cpu), telemetry.SeriesTable(samples, cpu), telemetry.SeriesNote(samples))
}
