// Package records reads and writes files of query-document pairs, one record a
// line: JSONL, TSV, the MS MARCO top-1000 layout, and TREC runs. A line is kept
// as it stands, so that what is written differs from what was read by the score
// alone.
package records
