// Package measures computes measures of ranking quality as trec_eval defines them, and
// compares rankings with statistics over queries.
//
// Documents rank by descending score, and equal scores by descending document id,
// compared byte by byte. Ranks in run files do not count. Scores are float64, as in
// trec_eval 10; trec_eval 9 and pytrec_eval round them to float32, which makes more
// ties of scores with more than seven digits. Logits are float32, so for them both
// agree.
//
// nDCG takes the relevance as gain and divides it by log2(rank+1). A negative relevance
// counts as 0, and Judged counts the document as judged. Means are over all queries of
// the judgements; a query that the run lacks counts 0, as in ir_measures and as with
// trec_eval's -c. A query without a relevant document counts 0 too.
//
// ir_measures itself breaks ties otherwise for two measures: RR@k and Judged@k rank
// equal scores by ascending id there, because other programs compute them. Here all
// measures see the same ranking.
package measures

// Qrels maps a query's id to its judged documents and their relevance. A relevance
// above 0 means relevant.
type Qrels map[string]map[string]int

// A Run maps a query's id to the documents that were retrieved for it, in any order.
type Run map[string][]Retrieved

// A Retrieved is a document of a run. A larger score ranks it higher.
type Retrieved struct {
	ID    string
	Score float64
}
