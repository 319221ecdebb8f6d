package records

import (
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTrecEval compares the order of a run with the one that trec_eval makes of
// its last column, whatever the ranks say; and shows that scores, which round to
// 1 and 0, have another order.
func TestTrecEval(t *testing.T) {
	shuffled := 0
	for _, query := range readTrecGolden(t) {
		byLogit := rankedDocuments(t, query.Documents, query.Logits)
		if !slices.Equal(byLogit, query.ByLogit) {
			t.Errorf("%s: by logit %q, trec_eval has %q", query.Query, byLogit, query.ByLogit)
		}
		scores := make([]float32, len(query.Logits))
		for i, logit := range query.Logits {
			scores[i] = sigmoid(logit)
		}
		byScore := rankedDocuments(t, query.Documents, scores)
		if !slices.Equal(byScore, query.ByScore) {
			t.Errorf("%s: by score %q, trec_eval has %q", query.Query, byScore, query.ByScore)
		}
		if !slices.Equal(byScore, query.ByLogit) {
			shuffled++
		}
	}
	if shuffled < 2 {
		t.Errorf("scores shuffle %d queries: the golden shows nothing", shuffled)
	}
}

type trecQuery struct {
	Query     string
	Documents []string
	Logits    []float32
	ByLogit   []string `json:"by_logit"`
	ByScore   []string `json:"by_score"`
}

func readTrecGolden(t *testing.T) []trecQuery {
	t.Helper()
	file, err := os.Open("testdata/trec.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // read only
	text, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Queries []trecQuery }
	if err := json.NewDecoder(text).Decode(&golden); err != nil || len(golden.Queries) == 0 {
		t.Fatalf("%d queries, %v", len(golden.Queries), err)
	}
	return golden.Queries
}

// rankedDocuments makes a run of one query as score does and returns its
// documents.
func rankedDocuments(t *testing.T, documents []string, logits []float32) []string {
	t.Helper()
	var rows []byte
	for i, document := range documents {
		var err error
		if rows, err = (Scored{}).AppendScored(rows, &Record{Line: i + 1, QueryID: "q", DocumentID: document}, Value{Logit: logits[i]}); err != nil {
			t.Fatal(err)
		}
	}
	run, _ := rank(t, string(rows))
	var out []string
	for line := range strings.Lines(run) {
		out = append(out, strings.Fields(line)[2])
	}
	return out
}

// sigmoid is the engine's.
func sigmoid(x float32) float32 {
	if x >= 0 {
		return float32(1 / (1 + math.Exp(-float64(x))))
	}
	z := math.Exp(float64(x))
	return float32(z / (1 + z))
}
