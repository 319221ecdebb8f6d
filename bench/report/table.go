package report

import (
	"math"
	"strconv"
	"strings"
)

// A table is Markdown's, with the separator as wide as the header.
type table struct {
	header []string
	dashes int // of every separator, if not 0
	rows   [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(t.header, " | ") + " |\n|")
	for _, name := range t.header {
		n := t.dashes
		if n == 0 {
			n = len(name) + 2
		}
		b.WriteString(strings.Repeat("-", n) + "|")
	}
	b.WriteByte('\n')
	for _, row := range t.rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return b.String()
}

// decimals writes a number; one that is not there is "-".
func decimals(x float64, n int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "-"
	}
	return strconv.FormatFloat(x, 'f', n, 64)
}

// with adds a unit to a number that is there.
func with(number, unit string) string {
	if number == "-" {
		return number
	}
	return number + unit
}

// value is what a pointer of the results holds, NaN if nothing.
func value(p *float64) float64 {
	if p == nil {
		return math.NaN()
	}
	return *p
}
