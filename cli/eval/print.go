package eval

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/mlxrank/mlxrank/cli/internal/output"
)

// A section is a part of the report for people: a title, a table, and notes below it.
type section struct {
	title  string
	header []string
	rows   [][]string
	notes  []string
	names  bool // the last column has names, which are cut for a terminal only
}

// print writes the report to w.
func (e *evaluation) print(w io.Writer) error {
	switch {
	case e.json:
		return output.PrintJSON(w, e.report)
	case e.perQuery == "-":
		return e.writePerQuery(w)
	case e.markdown:
		return writeMarkdown(w, e.sections())
	}
	return writeText(w, e.sections())
}

func writeText(w io.Writer, sections []section) error {
	for i, s := range sections {
		text := s.title + "\n"
		if i > 0 {
			text = "\n" + text
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		if len(s.rows) > 0 {
			t := output.Table{Header: s.header}
			for _, row := range s.rows {
				t.Add(row...)
			}
			width := output.Width(w)
			if s.names && !output.IsTerminal(w) {
				width = math.MaxInt32
			}
			if err := t.Write(w, width); err != nil {
				return err
			}
		}
		for _, note := range s.notes {
			if _, err := fmt.Fprintln(w, note); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeMarkdown(w io.Writer, sections []section) error {
	var b strings.Builder
	for i, s := range sections {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "### %s\n", escapeMarkdown(s.title))
		if len(s.rows) > 0 {
			b.WriteByte('\n')
			markdownRow(&b, s.header)
			rule := make([]string, len(s.header))
			for i := range rule {
				rule[i] = "---:"
			}
			markdownRow(&b, rule)
			for _, row := range s.rows {
				markdownRow(&b, row)
			}
		}
		for i, note := range s.notes {
			if i == 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(&b, "- %s\n", escapeMarkdown(note))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func markdownRow(b *strings.Builder, cells []string) {
	b.WriteByte('|')
	for _, cell := range cells {
		fmt.Fprintf(b, " %s |", escapeMarkdown(cell))
	}
	b.WriteByte('\n')
}

var markdownEscapes = strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "\\`")

func escapeMarkdown(text string) string { return markdownEscapes.Replace(text) }

// sections formats the report for people.
func (e *evaluation) sections() []section {
	list := []section{e.collectionSection()}
	if len(e.report.Configurations) > 1 {
		list = append(list, e.overviewSection())
	}
	for _, config := range e.report.Configurations {
		list = append(list, e.comparisonSection(config))
		if len(config.Depths) > 0 {
			list = append(list, e.depthSection(config))
		}
		if config.Thresholds != nil {
			list = append(list, thresholdSections(config)...)
		}
		if config.Examples != nil {
			list = append(list, config.Examples.sections(config.Name)...)
		}
	}
	if len(e.report.Precision) > 0 {
		list = append(list, e.precisionSections()...)
	}
	return list
}

// collectionSection describes the collection, and shows the measures of the first
// stage if nothing is compared with it.
func (e *evaluation) collectionSection() section {
	f := e.report.Collection
	s := section{title: fmt.Sprintf("%s: %s, %s", e.first.name, output.Count(f.Queries, "query", "queries"), output.Count(f.Candidates, "candidate", "candidates"))}
	if len(e.report.Configurations) == 0 {
		s.header = []string{"measure", "value", "ceiling", "lowest and highest order of ties"}
		for _, m := range e.report.FirstStage.Measures {
			s.rows = append(s.rows, []string{m.Measure, number(m.Value), number(m.Ceiling), bounds(m.Lowest, m.Highest, "no ties that matter")})
		}
	} else if tied := tiedMeasures(e.report.FirstStage.Measures); tied != "" {
		s.notes = append(s.notes, "ties in "+e.first.name+" allow "+tied)
	}
	s.notes = append(s.notes, fmt.Sprintf("judgements: %d of %s, %d relevant", f.Judgements, output.Count(f.JudgedQueries, "query", "queries"), f.Relevant))
	if f.MissingQueries > 0 {
		s.notes = append(s.notes, output.Count(f.MissingQueries, "judged query is", "judged queries are")+" not in "+e.first.name+" and counted as 0")
	}
	if f.UnjudgedQueries > 0 {
		s.notes = append(s.notes, output.Count(f.UnjudgedQueries, "query of", "queries of")+" "+e.first.name+" without judgements left out")
	}
	for _, warning := range e.report.Warnings {
		s.notes = append(s.notes, "warning: "+warning)
	}
	return s
}

// bounds formats the lowest and the highest value, or returns none if they are equal.
func bounds(lowest, highest float64, none string) string {
	if number(lowest) == number(highest) {
		return none
	}
	return number(lowest) + " to " + number(highest)
}

// tiedMeasures lists the measures that the order of ties can change.
func tiedMeasures(means []measureMean) string {
	var tied []string
	for _, m := range means {
		if b := bounds(m.Lowest, m.Highest, ""); b != "" {
			tied = append(tied, m.Measure+" "+b)
		}
	}
	return strings.Join(tied, ", ")
}

// overviewSection shows the measures of all configurations, one a row.
func (e *evaluation) overviewSection() section {
	s := section{title: "overview", names: true}
	for _, m := range e.measures {
		s.header = append(s.header, m.String())
	}
	s.header = append(s.header, "ms/query", "p to best", "configuration")
	var first []string
	for _, v := range e.before {
		first = append(first, number(v.mean))
	}
	s.rows = append(s.rows, append(first, "-", "-", e.first.name))
	for _, config := range e.report.Configurations {
		var row []string
		for _, m := range config.Measures {
			row = append(row, number(m.After))
		}
		time, p := "-", "best"
		if n := len(config.Depths); n > 0 {
			time = fmt.Sprintf("%.1f", config.Depths[n-1].MS)
		}
		if config.PToBest != nil {
			p = pValue(*config.PToBest)
		}
		s.rows = append(s.rows, append(row, time, p, config.Name))
	}
	s.notes = []string{fmt.Sprintf("p to best: paired randomization test of %s against the configuration with the highest value", e.measures[0])}
	return s
}

// verdict lists the measures that clearly rose or fell.
func verdict(list []comparison) string {
	var up, down []string
	for _, m := range list {
		switch {
		case m.Low != nil && *m.Low > 0:
			up = append(up, m.Measure)
		case m.High != nil && *m.High < 0:
			down = append(down, m.Measure)
		}
	}
	var parts []string
	if len(up) > 0 {
		parts = append(parts, "clearly higher: "+strings.Join(up, ", "))
	}
	if len(down) > 0 {
		parts = append(parts, "clearly lower: "+strings.Join(down, ", "))
	}
	if len(parts) == 0 {
		return "no measure is clearly higher or lower: every interval contains 0"
	}
	return strings.Join(parts, "; ") + " (the interval does not contain 0)"
}

// comparisonSection shows the measures of a configuration before and after.
func (e *evaluation) comparisonSection(config *configuration) section {
	s := section{title: config.Name + ", compared with " + e.first.name}
	if config.Depth > 0 {
		s.title = fmt.Sprintf("%s, depth %d, compared with %s", config.Name, config.Depth, e.first.name)
	}
	var means []measureMean
	s.header = []string{"measure", "before", "after", "difference", "95 % interval", "p", "won", "lost", "same", "ceiling"}
	for _, m := range config.Measures {
		s.rows = append(s.rows, m.cells())
		means = append(means, measureMean{Measure: m.Measure, Value: m.After, Lowest: m.Lowest, Highest: m.Highest})
	}
	s.notes = append(s.notes, verdict(config.Measures))
	if tied := tiedMeasures(means); tied != "" {
		s.notes = append(s.notes, "ties after reranking allow "+tied)
	}
	if config.Missing > 0 {
		s.notes = append(s.notes, output.Count(config.Missing, "judged query is", "judged queries are")+" not in "+config.Name+" and counted as 0")
	}
	return s
}

// depthSection shows the depth curve of a configuration.
func (e *evaluation) depthSection(config *configuration) section {
	s := section{title: "depth curve of " + config.Name}
	s.header = []string{"depth"}
	for _, m := range config.Measures {
		s.header = append(s.header, m.Measure)
	}
	s.header = append(s.header, "pairs", "seconds", "ms/query", "pairs/s")
	row := []string{"0"}
	for _, m := range config.Measures {
		row = append(row, number(m.Before))
	}
	s.rows = append(s.rows, append(row, "0", "0", "0", "-"))
	for _, d := range config.Depths {
		row := []string{strconv.Itoa(d.Depth)}
		for _, m := range d.Measures {
			row = append(row, number(m.Value))
		}
		s.rows = append(s.rows, append(row, strconv.Itoa(d.Pairs), fmt.Sprintf("%.2f", d.Seconds), fmt.Sprintf("%.1f", d.MS), fmt.Sprintf("%.1f", d.PairsS)))
	}
	return s
}

// number formats the value of a measure.
func number(x float64) string { return strconv.FormatFloat(x, 'f', 4, 64) }

// signed formats a difference.
func signed(x float64) string {
	text := fmt.Sprintf("%+.4f", x)
	if text == "-0.0000" {
		return "+0.0000"
	}
	return text
}

// pValue formats a p-value; the test cannot distinguish smaller ones.
func pValue(p float64) string {
	if p < 0.001 {
		return "<0.001"
	}
	return strconv.FormatFloat(p, 'f', 3, 64)
}
