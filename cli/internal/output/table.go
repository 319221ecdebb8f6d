// Package output formats results and run summaries as text and JSON.
package output

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// PlainWidth is the width of tables outside a terminal, in columns.
const PlainWidth = 100

// Display measures the width of text independently of the locale.
var Display = &runewidth.Condition{StrictEmojiNeutral: true}

// A Table formats text in columns. The last column is cut to the width of the table;
// the others are aligned right. A row may have a note below it.
type Table struct {
	Header []string
	rows   [][]string
	notes  map[int]string // by row
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Note adds text below the last column of the last row.
func (t *Table) Note(text string) {
	if t.notes == nil {
		t.notes = map[int]string{}
	}
	t.notes[len(t.rows)-1] = text
}

// Write writes the table to w.
func (t *Table) Write(w io.Writer, width int) error {
	last := len(t.Header) - 1
	columns := make([]int, last)
	for _, row := range append([][]string{t.Header}, t.rows...) {
		for i := range columns {
			columns[i] = max(columns[i], Display.StringWidth(row[i]))
		}
	}
	left := width
	for _, column := range columns {
		left -= column + 2
	}
	left = max(left, 10)
	var b strings.Builder
	line := func(cells []string) {
		for i, column := range columns {
			b.WriteString(Display.FillLeft(cells[i], column))
			b.WriteString("  ")
		}
		b.WriteString(Display.Truncate(cells[last], left, "…"))
		b.WriteByte('\n')
	}
	line(t.Header)
	for i, row := range t.rows {
		line(row)
		if note, ok := t.notes[i]; ok {
			line(append(make([]string, last), "└ "+note))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Snippet returns text for one line of a terminal. It replaces white space by single
// spaces and drops control characters, which could rewrite the screen or change its
// direction.
func Snippet(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.Join(strings.Fields(text), " ")
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// CanColour reports whether w is a terminal and NO_COLOR (no-color.org) is not set.
func CanColour(w io.Writer) bool { return IsTerminal(w) && os.Getenv("NO_COLOR") == "" }

// Width returns the columns of the terminal w, or PlainWidth.
func Width(w io.Writer) int {
	if file, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return PlainWidth
}

// PrintJSON writes v as indented JSON.
func PrintJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
