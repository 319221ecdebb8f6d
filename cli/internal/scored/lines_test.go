package scored

import (
	"errors"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
)

// TestRender checks that each result goes to its record, past lines with errors of
// their own and header rows, and that an error of a result replaces the line.
func TestRender(t *testing.T) {
	text := "query\tdocument\nq1\td1\nbad\nq2\t \nq3\td3\n"
	reader, err := records.NewReader("in", strings.NewReader(text), records.Options{Format: records.TSV, Header: records.SkipHeader})
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := input.NewChunks(reader).Next()
	if err != nil {
		t.Fatal(err)
	}
	lines := &Lines{reader: reader, layout: reader.Layout(), log: zerolog.Nop()}
	got, err := lines.Render(chunk, []Result{{Score: 0.5}, {Err: errors.New("the query: no")}, {Score: 0.25}})
	if err != nil {
		t.Fatal(err)
	}
	want := "query\tdocument\tscore\nq1\td1\t0.5\n\t\terror: line 3: 1 column, expected 2 (query, document)\n\t\terror: line 4: the query: no\nq3\td3\t0.25\n"
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if lines.Done != (Tally{Records: 5, Skipped: 2}) || lines.Empty != 0 {
		t.Errorf("counts %+v, %d empty", lines.Done, lines.Empty)
	}
}
