package measures

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/mlxrank/mlxrank/internal/spelling"
)

// A Kind names a measure as ir_measures does.
type Kind string

// The kinds of measures.
const (
	NDCG    Kind = "nDCG"    // discounted gain over the best possible one
	RR      Kind = "RR"      // 1 over the rank of the first relevant document
	AP      Kind = "AP"      // mean of the precision at each relevant document
	R       Kind = "R"       // share of the relevant documents
	P       Kind = "P"       // share of relevant documents among the first
	Judged  Kind = "Judged"  // share of judged documents among the first
	Success Kind = "Success" // 1 if a relevant document is among the first
)

var kinds = []Kind{NDCG, RR, AP, R, P, Judged, Success}

// aliases are the other names that ir_measures accepts.
var aliases = map[string]Kind{"NDCG": NDCG, "MRR": RR, "MAP": AP, "Recall": R, "Precision": P}

// maxCutoff limits cut-offs, far above the depth of any run.
const maxCutoff = 1_000_000_000

// A Measure is a kind with its parameters.
type Measure struct {
	Kind   Kind
	Cutoff int // number of first documents that count; 0 for all
	Rel    int // least relevance that makes a document relevant
}

// Parse returns the measure of a name as ir_measures writes it, such as nDCG@10 or
// AP(rel=2)@100.
func Parse(name string) (Measure, error) {
	rest, cutoff, hasCutoff := strings.Cut(strings.TrimSpace(name), "@")
	word, parameters, hasParameters := strings.Cut(rest, "(")
	kind, err := parseKind(strings.TrimSpace(word), name)
	if err != nil {
		return Measure{}, err
	}
	m := Measure{Kind: kind, Rel: 1}
	if hasParameters {
		if m.Rel, err = parseRel(kind, parameters); err != nil {
			return Measure{}, fmt.Errorf("measure %q: %w", name, err)
		}
	}
	if hasCutoff {
		n, err := strconv.Atoi(strings.TrimSpace(cutoff))
		if err != nil || n < 1 || n > maxCutoff {
			return Measure{}, fmt.Errorf("measure %q: cut-off %q is not a number from 1 to %d", name, cutoff, maxCutoff)
		}
		m.Cutoff = n
	}
	if m.Cutoff == 0 && (kind == R || kind == P || kind == Success) {
		return Measure{}, fmt.Errorf("measure %q needs a cut-off, such as %s@10", name, m)
	}
	return m, nil
}

func parseKind(word, name string) (Kind, error) {
	if slices.Contains(kinds, Kind(word)) {
		return Kind(word), nil
	}
	if kind, ok := aliases[word]; ok {
		return kind, nil
	}
	var known []string
	names := slices.Collect(maps.Keys(aliases))
	for _, kind := range kinds {
		known = append(known, string(kind)+"@10")
		names = append(names, string(kind))
	}
	slices.Sort(names)
	rest := strings.TrimPrefix(name, word) // such as @10
	hint := spelling.Hint(word, names, "%s"+strings.ReplaceAll(rest, "%", "%%"))
	same := func(n string) bool { return strings.EqualFold(n, word) }
	if i := slices.IndexFunc(kinds, func(k Kind) bool { return same(string(k)) }); i >= 0 {
		hint = fmt.Sprintf("; did you mean %s%s?", kinds[i], rest)
	} else if i := slices.IndexFunc(names, same); i >= 0 {
		hint = fmt.Sprintf("; did you mean %s%s?", names[i], rest)
	}
	return "", fmt.Errorf("unknown measure %q (known: %s, with any cut-off; nDCG, RR, AP and Judged without one too)%s", name, strings.Join(known, " "), hint)
}

// parseRel reads the parameters between parentheses. Only rel is supported.
func parseRel(kind Kind, parameters string) (int, error) {
	inner, ok := strings.CutSuffix(strings.TrimSpace(parameters), ")")
	if !ok {
		return 0, fmt.Errorf("the parenthesis is not closed; write for example AP(rel=2)@100")
	}
	key, value, _ := strings.Cut(inner, "=")
	if key = strings.TrimSpace(key); key != "rel" {
		return 0, fmt.Errorf("parameter %q is not supported; the only one is rel, the least relevance that counts, as in AP(rel=2)@100", key)
	}
	if kind == NDCG || kind == Judged {
		return 0, fmt.Errorf("%s has no parameter rel; remove it", kind)
	}
	rel, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || rel < 1 {
		return 0, fmt.Errorf("rel %q is not a number of 1 or more", strings.TrimSpace(value))
	}
	return rel, nil
}

// ParseList returns the measures of a list that is separated by commas or spaces.
func ParseList(list string) ([]Measure, error) {
	var all []Measure
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		m, err := Parse(name)
		if err != nil {
			return nil, err
		}
		if slices.Contains(all, m) {
			return nil, fmt.Errorf("measure %s is given twice; remove one", m)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no measure in %q; give for example nDCG@10,RR@10", list)
	}
	return all, nil
}

// String returns the measure's name as ir_measures writes it.
func (m Measure) String() string {
	name := string(m.Kind)
	if m.Rel != 1 {
		name += fmt.Sprintf("(rel=%d)", m.Rel)
	}
	if m.Cutoff > 0 {
		name += fmt.Sprintf("@%d", m.Cutoff)
	}
	return name
}
