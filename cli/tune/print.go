package tune

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/engine"
)

// A report is the result of tune, as --json prints it.
type report struct {
	Model       string    `json:"model"`
	Device      string    `json:"device"`
	DeviceName  string    `json:"device_name"`
	Texts       string    `json:"texts"`
	Queries     int       `json:"queries"`
	Documents   int       `json:"documents"` // of a query, at most
	Tokens      float64   `json:"mean_tokens"`
	BudgetS     float64   `json:"budget_s"`
	TookS       float64   `json:"took_s"`
	Bound       string    `json:"bound"`
	Rule        string    `json:"rule,omitempty"`
	Interrupted bool      `json:"interrupted,omitempty"`
	Rows        []row     `json:"configurations"`
	Failed      []failure `json:"not_offered,omitempty"`
	Choice      *choice   `json:"choice"` // null if the run was interrupted
}

// A row is a configuration with its figures.
type row struct {
	DType            engine.DType `json:"dtype"`
	Threads          int          `json:"threads"` // 0 on a GPU
	MicrobatchTokens int          `json:"microbatch_tokens"`
	Kernels          string       `json:"kernels"`
	Default          bool         `json:"default"` // what mlxrank does without settings
	Rounds           int          `json:"rounds"`
	PairsS           float64      `json:"pairs_s"`
	LowestPairsS     float64      `json:"lowest_pairs_s"`
	HighestPairsS    float64      `json:"highest_pairs_s"`
	P50MS            float64      `json:"p50_ms,omitempty"` // of a query with all its documents; none if it took too long
	PeakMB           float64      `json:"memory_peak_mb"`
	GPUPeakMB        float64      `json:"gpu_memory_peak_mb,omitempty"`
	Quality          quality      `json:"quality"`
	WithinBound      bool         `json:"within_bound"`
	Left             string       `json:"left,omitempty"`
}

// A choice is the configuration that tune would use.
type choice struct {
	DType            engine.DType `json:"dtype"`
	Threads          int          `json:"threads"`
	MicrobatchTokens int          `json:"microbatch_tokens"`
	Why              string       `json:"why"`
	ConfigFile       string       `json:"config_file,omitempty"`  // if it was written
	ConfigError      string       `json:"config_error,omitempty"` // why it could not be written
}

func (t *tuning) newRow(c *configuration) row {
	r := row{
		DType: engine.DType(c.opened.Info.DType), Threads: c.opened.Threads, MicrobatchTokens: c.opened.Tokens, Kernels: c.opened.Info.Kernels,
		Default: t.isDefault(c),
		Rounds:  len(c.speeds), PairsS: c.speed(),
		PeakMB: mebibytes(c.peak), GPUPeakMB: mebibytes(uint64(c.gpuPeak)),
		Quality: c.quality, WithinBound: c.quality.isWithinBound(), Left: c.left,
	}
	if len(c.times) > 0 {
		r.P50MS = median(c.times)
	}
	if len(c.speeds) > 0 {
		r.LowestPairsS, r.HighestPairsS = slices.Min(c.speeds), slices.Max(c.speeds)
	}
	return r
}

func mebibytes(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// print writes the report for people.
func (r *report) print(w io.Writer) error {
	judged := len(r.Rows) > 0 && r.Rows[0].Quality.NDCG != nil
	t := output.Table{Header: []string{"dtype", "threads", "microbatch", "pairs/s", "lowest-highest", "P50 ms", "peak MB", "tau", "top 10", "worst"}}
	if judged {
		t.Header = append(t.Header, "nDCG@10", "difference")
	}
	t.Header = append(t.Header, "")
	for _, row := range r.Rows {
		t.Add(row.cells(judged, r.isChosen(row))...)
	}
	if _, err := fmt.Fprintf(w, "%s on %s (%s), %s\n", r.Model, r.Device, r.DeviceName, r.Texts); err != nil {
		return err
	}
	if err := t.Write(w, math.MaxInt32); err != nil {
		return err
	}
	_, err := io.WriteString(w, r.notes())
	return err
}

func (r *report) isChosen(row row) bool {
	c := r.Choice
	return c != nil && c.DType == row.DType && c.Threads == row.Threads && c.MicrobatchTokens == row.MicrobatchTokens
}

func (r row) cells(judged, chosen bool) []string {
	threads := "-"
	if r.Threads > 0 {
		threads = strconv.Itoa(r.Threads)
	}
	q := r.Quality
	memory := fmt.Sprintf("%.0f", r.PeakMB)
	if r.GPUPeakMB > 0 {
		memory += fmt.Sprintf(" + %.0f", r.GPUPeakMB)
	}
	p50 := "-"
	if r.P50MS > 0 {
		p50 = fmt.Sprintf("%.1f", r.P50MS)
	}
	cells := []string{string(r.DType), threads, strconv.Itoa(r.MicrobatchTokens), fmt.Sprintf("%.1f", r.PairsS),
		fmt.Sprintf("%.1f-%.1f", r.LowestPairsS, r.HighestPairsS), p50, memory,
		fmt.Sprintf("%.4f", q.Tau), fmt.Sprintf("%.1f %%", 100*q.SameTop), fmt.Sprintf("%.2g", q.Worst)}
	if judged {
		cells = append(cells, fmt.Sprintf("%.4f", *q.NDCG), fmt.Sprintf("%+.4f", *q.Difference))
	}
	var notes []string
	if chosen {
		notes = append(notes, "chosen")
	}
	if r.Default {
		notes = append(notes, "the default")
	}
	if r.Left != "" {
		notes = append(notes, fmt.Sprintf("%s, after %s", r.Left, output.Count(q.Queries, "query", "queries")))
	}
	if !r.WithinBound {
		notes = append(notes, q.loss())
	}
	return append(cells, strings.Join(notes, "; "))
}

// writeWrapped writes a name and text in lines of at most output.PlainWidth columns.
func writeWrapped(b *strings.Builder, name, text string) {
	const indent = 10
	column := 0
	for _, word := range strings.Fields(text) {
		width := output.Display.StringWidth(word)
		switch {
		case column == 0:
			fmt.Fprintf(b, "%-*s", indent, name)
			column = indent
		case column+1+width > output.PlainWidth:
			fmt.Fprintf(b, "\n%*s", indent, "")
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += width
	}
	b.WriteByte('\n')
}

// notes returns the lines below the table.
func (r *report) notes() string {
	var b strings.Builder
	line := func(name, format string, args ...any) { writeWrapped(&b, name, fmt.Sprintf(format, args...)) }
	line("measured", "%s with up to %d documents, %.0f tokens a pair on average; in %.0f s (no round begins after %.0f s, but each configuration has at least three); each configuration in a process of its own, in interleaved rounds",
		output.Count(r.Queries, "query", "queries"), r.Documents, r.Tokens, r.TookS, r.BudgetS)
	line("columns", "pairs/s: median of the rounds; P50 of one query with its documents; peak: resident memory of the process%s; the others compare with float32 (worst: in deviations of its scores)", r.gpuNote())
	for _, f := range r.Failed {
		line("without", "%s: %s", f.DType, f.Reason)
	}
	line("bound", "%s", r.Bound)
	if r.Choice == nil {
		return b.String()
	}
	line("rule", "%s", r.Rule)
	threads := ""
	if r.Choice.Threads > 0 {
		threads = fmt.Sprintf(", %s", output.Count(r.Choice.Threads, "thread", "threads"))
	}
	line("choice", "%s%s, microbatches of %d tokens: %s", r.Choice.DType, threads, r.Choice.MicrobatchTokens, r.Choice.Why)
	if row, chosen := r.smallest(), r.chosenRow(); row != nil && chosen != nil && row.memory() < clearlyLess*chosen.memory() {
		line("memory", "%s takes the least within the bound: %.0f MB, against %.0f MB", row.DType, row.memory(), chosen.memory())
	}
	switch {
	case r.Choice.ConfigFile != "":
		line("config", "written to %s", r.Choice.ConfigFile)
	case r.Choice.ConfigError != "":
		line("config", "unchanged; it could not be written, for the reason below")
	default:
		line("config", "unchanged; --write-config writes the choice")
	}
	return b.String()
}

func (r *report) gpuNote() string {
	if r.Device == string(engine.GPU) {
		return " + MLX's own on the GPU"
	}
	return ""
}

// smallest returns the row within the bound with the lowest peak of memory, nil if no
// row is within it. A row that left early has not had its peak.
func (r *report) smallest() *row {
	var best *row
	for i := range r.Rows {
		row := &r.Rows[i]
		if row.WithinBound && row.Left == "" && (best == nil || row.memory() < best.memory()) {
			best = row
		}
	}
	return best
}

func (r *report) chosenRow() *row {
	for i := range r.Rows {
		if r.isChosen(r.Rows[i]) {
			return &r.Rows[i]
		}
	}
	return nil
}

// memory returns the peak in MB. On a GPU that may count some of it twice.
func (r *row) memory() float64 { return r.PeakMB + r.GPUPeakMB }
