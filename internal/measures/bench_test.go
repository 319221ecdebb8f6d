package measures

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkCompare compares as many queries as MS MARCO's development set has.
func BenchmarkCompare(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	before, after := make([]float64, 6980), make([]float64, 6980)
	for i := range before {
		before[i], after[i] = random.Float64(), random.Float64()
	}
	for b.Loop() {
		if _, err := Compare(before, after); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEvaluate measures 100 queries of 1,000 documents.
func BenchmarkEvaluate(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	qrels, run := Qrels{}, Run{}
	for q := range 100 {
		id := fmt.Sprint("q", q)
		qrels[id] = map[string]int{}
		for d := range 1000 {
			document := fmt.Sprint("d", d)
			run[id] = append(run[id], Retrieved{document, random.NormFloat64()})
			if d%50 == 0 {
				qrels[id][document] = d % 3
			}
		}
	}
	list := []Measure{{NDCG, 10, 1}, {RR, 10, 1}, {AP, 0, 1}, {R, 100, 1}, {P, 10, 1}, {Judged, 10, 1}}
	for b.Loop() {
		if _, err := Evaluate(qrels, run, list, Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
