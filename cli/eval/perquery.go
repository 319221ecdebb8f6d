package eval

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// perQueryHeader names the columns of --per-query.
var perQueryHeader = []string{"configuration", "query", "measure", "before", "after", "difference"}

// writePerQuery writes the measures of each query as TSV, one line for each
// configuration, query and measure.
func (e *evaluation) writePerQuery(w io.Writer) error {
	out := bufio.NewWriter(w)
	if _, err := fmt.Fprintln(out, strings.Join(perQueryHeader, "\t")); err != nil {
		return err
	}
	for _, config := range e.report.Configurations {
		for q, id := range e.queries {
			for m, measure := range e.measures {
				before, after := e.before[m].each[q], config.after[m].each[q]
				if _, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(config.Name), cell(id), measure, exact(before), exact(after), exact(after-before)); err != nil {
					return err
				}
			}
		}
	}
	if len(e.report.Configurations) == 0 {
		for q, id := range e.queries {
			for m, measure := range e.measures {
				value := exact(e.before[m].each[q])
				if _, err := fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t0\n", cell(e.first.name), cell(id), measure, value, value); err != nil {
					return err
				}
			}
		}
	}
	return out.Flush()
}

// cell returns text for a column, without tabs and line ends.
func cell(text string) string { return cellSpaces.Replace(text) }

var cellSpaces = strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")

// exact formats a number so that it parses to the same float64.
func exact(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// runTag is the last column of a written run.
const runTag = "mlxrank"

// writeRun writes a run in TREC's format, best documents first.
func writeRun(w io.Writer, queries []string, run measures.Run) error {
	out := bufio.NewWriter(w)
	for _, query := range queries {
		for i, d := range measures.Rank(run[query]) {
			if strings.ContainsFunc(query+d.ID, unicode.IsSpace) {
				return fmt.Errorf("--write-run: query %q, document %q: an id contains white space, which a TREC run cannot represent", query, d.ID)
			}
			score := strconv.FormatFloat(d.Score, 'g', -1, 32) // a logit or a whole number: parses to the same float32
			if _, err := fmt.Fprintf(out, "%s Q0 %s %d %s %s\n", query, d.ID, i+1, score, runTag); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}
