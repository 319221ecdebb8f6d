package eval

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// A collection holds judgements and runs, and finds the texts of the first run.
type collection struct {
	qrels  measures.Qrels
	first  namedRun
	others []namedRun
	order  records.CandidateOrder

	texts  *records.Candidates // nil if only runs are compared
	opened []io.Closer

	queries    []string               // that are averaged, in order
	judgements measures.Qrels         // of these queries
	candidates [][]measures.Retrieved // by query, in the order of the first stage
}

type namedRun struct {
	name string
	run  measures.Run
}

// openCollection reads the files that the flags name.
func openCollection(c *cli.Context, stdin io.Reader, o *options) (_ *collection, err error) {
	col := &collection{}
	defer func() {
		if err != nil {
			err = errors.Join(err, col.close())
		}
	}()
	if err := refuseStandardInput(c); err != nil {
		return nil, err
	}
	if err := useBEIR(c); err != nil {
		return nil, err
	}
	if c.Bool("demo") {
		err = col.readDemo()
	} else {
		err = col.readFiles(c, stdin, len(o.configs) > 0)
	}
	if err != nil {
		return nil, err
	}
	return col, col.prepare(o.onlyJudged)
}

// refuseStandardInput rejects a second file that is read from standard input.
func refuseStandardInput(c *cli.Context) error {
	var from []string
	for _, name := range []string{"qrels", "candidates"} {
		if c.String(name) == "-" {
			from = append(from, "--"+name)
		}
	}
	for _, run := range c.StringSlice("run") {
		if run == "-" {
			from = append(from, "--run")
		}
	}
	if len(from) > 1 {
		return command.Usagef("%s - and %s - both read standard input; give one of them as a file", from[0], from[1])
	}
	return nil
}

// useBEIR sets the flags that --beir stands for.
func useBEIR(c *cli.Context) error {
	dir := c.String("beir")
	if dir == "" {
		return nil
	}
	for _, file := range [][2]string{{"queries", "queries.jsonl"}, {"documents", "corpus.jsonl"}, {"qrels", "qrels/test.tsv"}} {
		flag, name := file[0], filepath.Join(dir, filepath.FromSlash(file[1]))
		if c.IsSet(flag) {
			continue
		}
		path := ""
		for _, ending := range []string{"", ".gz", ".zst"} {
			if _, err := os.Stat(name + ending); err == nil {
				path = name + ending
				break
			}
		}
		if path == "" {
			return fmt.Errorf("--beir: %s does not exist; a BEIR collection has corpus.jsonl, queries.jsonl and qrels/test.tsv (for another split, give --qrels FILE)", name)
		}
		if err := c.Set(flag, path); err != nil {
			return err
		}
	}
	return nil
}

// readFiles reads judgements and runs. It opens the texts if a model needs them.
func (col *collection) readFiles(c *cli.Context, stdin io.Reader, texts bool) (err error) {
	if path := c.String("qrels"); path != "" {
		if col.qrels, err = input.ReadQrels(c.Context, path, stdin); err != nil {
			return err
		}
	}
	runs := c.StringSlice("run")
	if path := c.String("candidates"); path != "" {
		runs = []string{path}
	}
	names := runNames(runs)
	for i, path := range runs[1:] {
		run, err := input.ReadRun(c.Context, path, stdin)
		if err != nil {
			return err
		}
		col.others = append(col.others, namedRun{names[i+1], run})
	}
	col.first.name = names[0]
	if !c.IsSet("candidates") && !c.IsSet("format") {
		if err := c.Set("format", string(records.TREC)); err != nil {
			return err
		}
	}
	if !texts {
		col.first.run, err = input.ReadRun(c.Context, runs[0], stdin)
		return err
	}
	path := runs[0]
	if format := records.FormatOfName(path); !c.IsSet("candidates") && (format == records.CSV || format == records.Parquet) {
		if stdin, err = tableAsRun(c.Context, path); err != nil {
			return err
		}
		path = "-"
	}
	opened, err := input.OpenCandidates(c, path, stdin)
	if err != nil {
		return err
	}
	col.opened = append(col.opened, opened)
	return col.take(opened.Candidates)
}

// tableAsRun returns the lines of a run that is a table.
func tableAsRun(ctx context.Context, path string) (io.Reader, error) {
	run, err := input.ReadRun(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	var lines bytes.Buffer
	for _, query := range slices.Sorted(maps.Keys(run)) {
		for rank, d := range run[query] {
			if strings.ContainsFunc(query+d.ID, unicode.IsSpace) {
				return nil, fmt.Errorf("%s: query %q, document %q: an id of a run contains white space", path, query, d.ID)
			}
			fmt.Fprintf(&lines, "%s Q0 %s %d %s table\n", query, d.ID, rank+1, exact(d.Score))
		}
	}
	return &lines, nil
}

// runNames returns the names of the files, with their folders if two have the same.
func runNames(paths []string) []string {
	var names []string
	for _, path := range paths {
		name := filepath.Base(path)
		if slices.Contains(names, name) {
			return paths
		}
		names = append(names, name)
	}
	return names
}

// take uses candidates as the first stage, and their labels unless there are
// judgements.
func (col *collection) take(candidates *records.Candidates) error {
	col.texts, col.first.run, col.order = candidates, candidates.Run, candidates.Order
	if col.qrels == nil {
		col.qrels = candidates.Qrels
	}
	if col.qrels == nil {
		return command.Usagef("%s has no labels; give the judgements with --qrels FILE", col.first.name)
	}
	return nil
}

// prepare checks that judgements and runs belong together, and selects the queries.
func (col *collection) prepare(onlyJudged bool) error {
	for _, r := range append([]namedRun{col.first}, col.others...) {
		if err := col.checkOverlap(r); err != nil {
			return err
		}
	}
	col.judgements = make(measures.Qrels)
	for _, id := range slices.Sorted(maps.Keys(col.qrels)) {
		if onlyJudged && !col.everyRunHas(id) {
			continue
		}
		col.queries = append(col.queries, id)
		col.judgements[id] = col.qrels[id]
		col.candidates = append(col.candidates, measures.Rank(col.first.run[id]))
	}
	if len(col.queries) == 0 {
		return errors.New("no query has judgements and is in all runs; omit --only-judged-queries to count missing queries as 0")
	}
	return nil
}

func (col *collection) everyRunHas(query string) bool {
	has := len(col.first.run[query]) > 0
	for _, r := range col.others {
		has = has && len(r.run[query]) > 0
	}
	return has
}

// checkOverlap returns an error if the ids of a run are not the ids of the judgements.
func (col *collection) checkOverlap(r namedRun) error {
	shared := false
	for id, documents := range r.run {
		judged, ok := col.qrels[id]
		shared = shared || ok
		for _, d := range documents {
			if _, ok := judged[d.ID]; ok {
				return nil
			}
		}
	}
	if !shared {
		return fmt.Errorf("%s and the judgements have no query in common: queries are %s in the run and %s in the judgements; are both of the same collection?",
			r.name, someOf(maps.Keys(r.run)), someOf(maps.Keys(col.qrels)))
	}
	var retrieved, judged []string
	for _, id := range slices.Sorted(maps.Keys(r.run)) {
		if col.qrels[id] == nil {
			continue
		}
		for _, d := range r.run[id] {
			retrieved = append(retrieved, d.ID)
		}
		judged = slices.Collect(maps.Keys(col.qrels[id]))
		break
	}
	return fmt.Errorf("%s has no judged document: documents are %s in the run and %s in the judgements; are both of the same collection?",
		r.name, someOf(slices.Values(retrieved)), someOf(slices.Values(judged)))
}

// missing returns how many of the averaged queries a run lacks.
func (col *collection) missing(r namedRun) int {
	n := 0
	for _, id := range col.queries {
		if len(r.run[id]) == 0 {
			n++
		}
	}
	return n
}

// unjudged returns how many queries of a run have no judgements.
func (col *collection) unjudged(r namedRun) int {
	n := 0
	for id := range r.run {
		if col.qrels[id] == nil {
			n++
		}
	}
	return n
}

// longest returns the most candidates of a query.
func (col *collection) longest() int {
	n := 0
	for _, list := range col.candidates {
		n = max(n, len(list))
	}
	return n
}

func (col *collection) close() error {
	var errs []error
	for _, c := range col.opened {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// someOf lists a few ids, in order.
func someOf(ids iter.Seq[string]) string {
	const most = 3
	sorted := slices.Sorted(ids)
	var quoted []string
	for _, id := range sorted[:min(most, len(sorted))] {
		quoted = append(quoted, strconv.Quote(id))
	}
	if len(sorted) > most {
		quoted = append(quoted, "...")
	}
	return strings.Join(quoted, ", ")
}
