package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// plainWidth is the width of tables that do not go to a terminal.
const plainWidth = 100

// display measures text the same in every locale.
var display = &runewidth.Condition{StrictEmojiNeutral: true}

// table is text in columns. All but the last are numbers, aligned right; the
// last is cut so that no line is wider than the table. A row may have a note on
// a line of its own.
type table struct {
	header []string
	rows   [][]string
	notes  map[int]string // by row
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// note puts text under the last column of the row added last.
func (t *table) note(text string) {
	if t.notes == nil {
		t.notes = map[int]string{}
	}
	t.notes[len(t.rows)-1] = text
}

func (t *table) write(w io.Writer, width int) error {
	last := len(t.header) - 1
	columns := make([]int, last)
	for _, row := range append([][]string{t.header}, t.rows...) {
		for i := range columns {
			columns[i] = max(columns[i], display.StringWidth(row[i]))
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
			b.WriteString(display.FillLeft(cells[i], column))
			b.WriteString("  ")
		}
		b.WriteString(display.Truncate(cells[last], left, "…"))
		b.WriteByte('\n')
	}
	line(t.header)
	for i, row := range t.rows {
		line(row)
		if note, ok := t.notes[i]; ok {
			line(append(make([]string, last), "└ "+note))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// snippet is text made fit for one line of a terminal: white space becomes
// single spaces, and control characters, which could rewrite the screen or turn
// its direction, are dropped.
func snippet(text string) string {
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

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// colours reports whether output to w may be coloured: on a terminal, unless
// NO_COLOR is set (no-color.org).
func colours(w io.Writer) bool { return isTerminal(w) && os.Getenv("NO_COLOR") == "" }

// widthOf is the number of columns of the terminal w is, else plainWidth.
func widthOf(w io.Writer) int {
	if !isTerminal(w) {
		return plainWidth
	}
	width, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil || width <= 0 {
		return plainWidth
	}
	return width
}

// printJSON prints a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
