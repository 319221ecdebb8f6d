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

// PlainWidth is the width of tables that do not go to a terminal.
const PlainWidth = 100

// Display measures text the same in every locale.
var Display = &runewidth.Condition{StrictEmojiNeutral: true}

// Table is text in columns. All but the last are numbers, aligned right; the
// last is cut so that no line is wider than the table. A row may have a note on
// a line of its own.
type Table struct {
	Header []string
	rows   [][]string
	notes  map[int]string // by row
}

func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Note puts text under the last column of the row added last.
func (t *Table) Note(text string) {
	if t.notes == nil {
		t.notes = map[int]string{}
	}
	t.notes[len(t.rows)-1] = text
}

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
	left = max(left, 20)
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

// Snippet is text made fit for one line of a terminal: white space becomes
// single spaces, and control characters, which could rewrite the screen or turn
// its direction, are dropped.
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

func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// CanColour reports whether output to w may be coloured: on a terminal, unless
// NO_COLOR is set (no-color.org).
func CanColour(w io.Writer) bool { return IsTerminal(w) && os.Getenv("NO_COLOR") == "" }

// Width is the number of columns of the terminal w is, else plainWidth.
func Width(w io.Writer) int {
	if !IsTerminal(w) {
		return PlainWidth
	}
	width, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil || width <= 0 {
		return PlainWidth
	}
	return width
}

// PrintJSON prints a value as indented JSON.
func PrintJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
