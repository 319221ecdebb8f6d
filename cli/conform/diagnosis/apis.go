package diagnosis

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// APIs lists the formats of rerank servers. Auto, the first, tries the others.
var APIs = []string{Auto, "tei", "jina", "cohere", "vllm", "voyage"}

// Auto finds the format by trying.
const Auto = "auto"

// An api is a format of requests and answers. All defaults of a server stay: no
// request asks for raw scores.
type api struct {
	name  string
	paths []string // that servers answer at
	body  func(model, query string, documents []string) map[string]any
	list  string // field of the answer that has the results; "" if the answer is the list
	score string // field of a result

	allText string // how a request asks for all results
}

// apis are in the order in which Auto tries them.
var apis = []api{
	{"tei", []string{"/rerank"}, teiBody, "", "score", ""},
	{"jina", []string{"/v1/rerank", "/rerank"}, jinaBody, "results", "relevance_score", "; the request asks for all with top_n, which it ignores"},
	{"cohere", []string{"/v2/rerank"}, cohereBody, "results", "relevance_score", "; the request asks for all with top_n, which it ignores"},
	{"vllm", []string{"/score", "/v1/score"}, vllmBody, "data", "score", ""},
	{"voyage", []string{"/v1/rerank"}, voyageBody, "data", "relevance_score", "; the request asks for all with top_k, which it ignores"},
}

func teiBody(_, query string, documents []string) map[string]any {
	return map[string]any{"query": query, "texts": documents, "truncate": true} // servers may refuse long texts otherwise
}

func jinaBody(model, query string, documents []string) map[string]any {
	return map[string]any{"model": model, "query": query, "documents": documents, "top_n": len(documents), "return_documents": false}
}

func cohereBody(model, query string, documents []string) map[string]any {
	return map[string]any{"model": model, "query": query, "documents": documents, "top_n": len(documents)}
}

func vllmBody(model, query string, documents []string) map[string]any {
	return map[string]any{"model": model, "text_1": query, "text_2": documents, "truncate_prompt_tokens": -1}
}

func voyageBody(model, query string, documents []string) map[string]any {
	return map[string]any{"model": model, "query": query, "documents": documents, "top_k": len(documents), "truncation": true}
}

// A result is the score of one document.
type result struct {
	index int
	score float64 // NaN if the answer has none
	lacks string  // why it has none
}

// errShape reports an answer in another format.
var errShape = errors.New("the answer has another format")

// parse reads an answer for n documents. The first index may be 0 or 1.
func (a *api) parse(data []byte, n int) ([]result, error) {
	var answer any
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("%w: it is not JSON, and begins with %q", errShape, clip(string(data[:min(len(data), 300)]), 60))
	}
	if a.list != "" {
		fields, ok := answer.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%w: it is %s, expected an object with the field %q", errShape, describe(answer), a.list)
		}
		if answer, ok = fields[a.list]; !ok {
			return nil, fmt.Errorf("%w: it lacks the field %q", errShape, a.list)
		}
	}
	list, ok := answer.([]any)
	if !ok {
		return nil, fmt.Errorf("%w: the results are %s, expected a list", errShape, describe(answer))
	}
	results := make([]result, len(list))
	for i, item := range list {
		var err error
		if results[i], err = a.parseResult(item, n); err != nil {
			return nil, fmt.Errorf("%w: result %d %w", errShape, i, err)
		}
	}
	return results, nil
}

func (a *api) parseResult(item any, n int) (result, error) {
	fields, ok := item.(map[string]any)
	if !ok {
		return result{}, fmt.Errorf("is %s, expected an object", describe(item))
	}
	index, ok := fields["index"].(float64)
	value, present := fields[a.score]
	score, scored := value.(float64)
	switch {
	case !ok || index != math.Trunc(index) || index < 0 || index > float64(n):
		return result{}, fmt.Errorf("has as index %s, expected a whole number from 0 to %d", describe(fields["index"]), n-1)
	case !present && (len(fields) == 1 || fields["score"] != nil || fields["relevance_score"] != nil):
		return result{}, fmt.Errorf("lacks the field %q", a.score)
	case !present:
		return result{int(index), math.NaN(), fmt.Sprintf("results lack the field %q", a.score)}, nil
	case value == nil:
		return result{int(index), math.NaN(), fmt.Sprintf("%q is null", a.score)}, nil
	case !scored:
		return result{}, fmt.Errorf("has as score %s, expected a number", describe(value))
	}
	return result{int(index), score, ""}, nil
}

// describe returns a JSON value in words.
func describe(value any) string {
	switch v := value.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return fmt.Sprintf("the text %q", clip(v, 60))
	case bool:
		return fmt.Sprintf("the word %v", v)
	}
	return fmt.Sprintf("the number %v", value)
}

// wrongIndexes returns what is wrong with the indexes for n documents, if anything is.
func wrongIndexes(results []result, n int) string {
	seen := make([]bool, n+1)
	for _, r := range results {
		if seen[r.index] {
			return fmt.Sprintf("two results have the index %d", r.index)
		}
		seen[r.index] = true
	}
	if seen[0] && seen[n] {
		return fmt.Sprintf("results have the indexes 0 and %d for %d documents", n, n)
	}
	return ""
}

// find returns the formats to try.
func find(name string) []api {
	if name == Auto || name == "" {
		return apis
	}
	i := slices.IndexFunc(apis, func(a api) bool { return a.name == name })
	if i < 0 {
		return nil
	}
	return apis[i : i+1]
}
