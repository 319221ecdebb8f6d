package diagnosis

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed pairs.json
var pairsFile []byte

// maxStretch is the largest maximum length, in tokens, that the built-in texts are
// made longer than. Models that take more are compared without truncated pairs.
const maxStretch = 1024

// KindPlain is the kind of the pairs without anything special: short, lower-case,
// ASCII. They show the faults that every pair has.
const KindPlain = "plain"

// A Pair is a query, a document and what is special about them.
type Pair struct {
	Kind     string
	Query    string
	Document string
}

// A text of the file is a string, or words of a named text, repeated as often as
// needed: a number of words, or as many as have a share of the maximum length in tokens.
type text struct {
	plain string
	Name  string  `json:"text"`
	Start int     `json:"start"`
	Words int     `json:"words"`
	Share float64 `json:"share"`
}

// UnmarshalJSON reads either form.
func (t *text) UnmarshalJSON(data []byte) error {
	if data[0] == '"' {
		return json.Unmarshal(data, &t.plain)
	}
	type named text
	return json.Unmarshal(data, (*named)(t))
}

// A builder makes the texts for a model.
type builder struct {
	texts     map[string]string
	maxLength int
	count     func(text string) (int, error) // tokens
}

func (b *builder) build(t text) (string, error) {
	if t.Name == "" {
		return t.plain, nil
	}
	all := strings.Fields(b.texts[t.Name])
	if len(all) == 0 {
		return "", fmt.Errorf("text %q is missing", t.Name)
	}
	first := func(n int) string {
		words := make([]string, n)
		for i := range words {
			words[i] = all[(t.Start+i)%len(all)]
		}
		return strings.Join(words, " ")
	}
	if t.Words > 0 {
		return first(t.Words), nil
	}
	tokens := int(t.Share * float64(min(b.maxLength, maxStretch)))
	n, err := 0, error(nil)
	for step := 1 << 10; step > 0 && err == nil; step /= 2 { // a word has at least one token
		var found int
		if found, err = b.count(first(n + step)); found <= tokens {
			n += step
		}
	}
	return first(n), err
}

// makeGroups returns the built-in pairs for a model of a maximum length. The pairs of a
// group have one query, and go to a server together.
func makeGroups(maxLength int, count func(text string) (int, error)) ([][]Pair, error) {
	var file struct {
		Texts  map[string]string `json:"texts"`
		Groups []struct {
			Kind      string `json:"kind"`
			Query     text   `json:"query"`
			Documents []text `json:"documents"`
		} `json:"groups"`
	}
	if err := json.Unmarshal(pairsFile, &file); err != nil {
		return nil, err
	}
	b := builder{file.Texts, maxLength, count}
	var out [][]Pair
	for _, g := range file.Groups {
		query, err := b.build(g.Query)
		if err != nil {
			return nil, err
		}
		var group []Pair
		for _, d := range g.Documents {
			document, err := b.build(d)
			if err != nil {
				return nil, err
			}
			group = append(group, Pair{g.Kind, query, document})
		}
		out = append(out, group)
	}
	return out, nil
}
