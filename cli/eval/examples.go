package eval

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/internal/measures"
)

// examples are the queries that gained most and that lost most by reranking.
type examples struct {
	Measure string    `json:"measure"`
	Helped  []example `json:"helped"`
	Hurt    []example `json:"hurt"`
}

// An example is a query, with the documents whose moves matter most.
type example struct {
	Query     string            `json:"query_id"`
	Text      string            `json:"query"`
	Before    float64           `json:"before"`
	After     float64           `json:"after"`
	Documents []exampleDocument `json:"documents"`
}

type exampleDocument struct {
	ID         string `json:"document_id"`
	RankBefore int    `json:"rank_before"`
	RankAfter  int    `json:"rank_after"`
	Relevance  *int   `json:"relevance"` // nil without a judgement
	Text       string `json:"text"`      // its start
}

const (
	// exampleDocuments is how many documents of a query are shown, and exampleBytes
	// how much of their texts.
	exampleDocuments = 3
	exampleBytes     = 240
)

// findExamples chooses the n queries that the first measure says gained most, and the
// n that lost most.
func (e *evaluation) findExamples(config *configuration, run measures.Run, n int) (*examples, error) {
	gain := func(q int) float64 { return config.after[0].each[q] - e.before[0].each[q] }
	order := make([]int, len(e.queries))
	for q := range order {
		order[q] = q
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(gain(b), gain(a)) })
	found := &examples{Measure: e.measures[0].String(), Helped: []example{}, Hurt: []example{}}
	for i := range min(n, len(order)) {
		if q := order[i]; gain(q) > 0 {
			x, err := e.example(config, run, q)
			if err != nil {
				return nil, err
			}
			found.Helped = append(found.Helped, x)
		}
		if q := order[len(order)-1-i]; gain(q) < 0 {
			x, err := e.example(config, run, q)
			if err != nil {
				return nil, err
			}
			found.Hurt = append(found.Hurt, x)
		}
	}
	return found, nil
}

// example describes what happened to a query.
func (e *evaluation) example(config *configuration, run measures.Run, q int) (example, error) {
	id := e.queries[q]
	x := example{Query: id, Before: e.before[0].each[q], After: config.after[0].each[q]}
	var err error
	if x.Text, err = e.texts.Query(id); err != nil {
		return x, err
	}
	before := make(map[string]int)
	for rank, d := range e.candidates[q] {
		before[d.ID] = rank + 1
	}
	for rank, d := range measures.Rank(run[id]) {
		document := exampleDocument{ID: d.ID, RankBefore: before[d.ID], RankAfter: rank + 1}
		if relevance, ok := e.qrels[id][d.ID]; ok {
			document.Relevance = &relevance
		}
		x.Documents = append(x.Documents, document)
	}
	slices.SortStableFunc(x.Documents, func(a, b exampleDocument) int { return cmp.Compare(b.weight(), a.weight()) })
	x.Documents = x.Documents[:min(exampleDocuments, len(x.Documents))]
	slices.SortFunc(x.Documents, func(a, b exampleDocument) int { return cmp.Compare(a.RankAfter, b.RankAfter) })
	for i := range x.Documents {
		text, err := e.texts.Document(x.Documents[i].ID)
		if err != nil {
			return x, err
		}
		if len(text) > exampleBytes {
			text = strings.ToValidUTF8(text[:exampleBytes], "")
		}
		x.Documents[i].Text = output.Snippet(text)
	}
	return x, nil
}

// weight is how much the move of a document explains: relevant documents count by
// their move among the first ranks, others only on the first rank.
func (d exampleDocument) weight() float64 {
	move := 1/float64(d.RankBefore) - 1/float64(d.RankAfter)
	if d.Relevance != nil && *d.Relevance > 0 {
		return 1 + max(move, -move)
	}
	if d.RankAfter == 1 || d.RankBefore == 1 {
		return 1 + max(move, -move)/2
	}
	return max(move, -move)
}

// sections formats the examples for people.
func (x *examples) sections(name string) []section {
	var list []section
	for _, group := range []struct {
		verb string
		of   []example
	}{{"gained", x.Helped}, {"lost", x.Hurt}} {
		s := section{title: fmt.Sprintf("queries that %s most with %s, by %s", group.verb, name, x.Measure)}
		if len(group.of) == 0 {
			s.notes = []string{"none"}
		}
		s.header = []string{x.Measure, "before", "after", "relevance", "query and documents"}
		for _, q := range group.of {
			s.rows = append(s.rows, []string{signed(q.After - q.Before), number(q.Before), number(q.After), "", output.Snippet(q.Text + " (" + q.Query + ")")})
			for _, d := range q.Documents {
				relevance := "unjudged"
				if d.Relevance != nil {
					relevance = fmt.Sprint(*d.Relevance)
				}
				s.rows = append(s.rows, []string{"rank", fmt.Sprint(d.RankBefore), fmt.Sprint(d.RankAfter), relevance, "- " + d.Text})
			}
		}
		list = append(list, s)
	}
	return list
}
