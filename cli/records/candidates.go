package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/mlxrank/mlxrank/internal/measures"
)

// A CandidateOrder says how a file of candidates ranks them.
type CandidateOrder string

// The orders.
const (
	ByScore    CandidateOrder = "score"    // by the scores of a run, or of objects with "score"
	ByPosition CandidateOrder = "position" // by position in the file
	Unordered  CandidateOrder = "none"     // positives and negatives: all scores are 0
)

// Candidates are the documents that a first stage found for each query.
type Candidates struct {
	Format Format
	Order  CandidateOrder
	Run    measures.Run
	Qrels  measures.Qrels // the labels of objects; nil if the file has none

	queries, documents map[string]candidateText // by id; nil for a run
	texts              Options                  // the texts of a run
}

// A candidateText is a text and the line that has it first.
type candidateText struct {
	text string
	line int
}

// Query returns the text of a query of Run.
func (c *Candidates) Query(id string) (string, error) {
	if c.Format == TREC {
		text, _, err := c.texts.Queries.Get(id)
		return text, err
	}
	return c.queries[id].text, nil
}

// Document returns the text of a document of Run. It reads the text of a TREC run from
// the disk; other formats keep their texts in memory.
func (c *Candidates) Document(id string) (string, error) {
	if c.Format == TREC {
		text, _, err := c.texts.Documents.Get(id)
		return text, err
	}
	return c.documents[id].text, nil
}

// ReadCandidates reads candidates: a TREC run, whose texts are in o, MS MARCO's layout
// qid, pid, query, passage, or objects with labels. It fails at the first line
// that is malformed, repeats a pair, or names a text that does not exist.
func ReadCandidates(name string, r io.Reader, o Options) (*Candidates, error) {
	o.Score = IgnoreScore
	reader, err := NewReader(name, r, o)
	if err != nil {
		return nil, err
	}
	return reader.Candidates()
}

// Candidates reads all records as candidates. The score policy must be IgnoreScore.
func (r *Reader) Candidates() (*Candidates, error) {
	o, name := r.options, r.name
	b := candidateBuilder{Candidates: Candidates{Format: r.Format, Order: ByPosition, Run: make(measures.Run), texts: o}, seen: make(idLines), unnamed: make(map[[2]string]labelledLine)}
	add := b.addRecord
	switch r.Format {
	case TREC:
		b.Order, add = ByScore, b.addRunLine
	case TSV:
		if o.Fields.any() {
			break
		}
		return nil, fmt.Errorf("%s: candidates need ids or labels, but tsv has none; use msmarco (qid, pid, query, passage) or jsonl", name)
	}
	switch p := r.parser.(type) {
	case jsonl:
		b.object, add = ParseObject, b.addObject
	case parquetLayout:
		b.object, add = ParseObject, b.addObject
	case *table:
		b.object, add = p.object, b.addObject
	}
	b.parse = r.parse
	b.queries, b.documents, b.ids = make(map[string]candidateText), make(map[string]candidateText), make(map[string]string)
	for {
		line, err := r.source.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, errTooLong) {
			return nil, err
		}
		if err == nil && r.blank(line) {
			continue
		}
		record := Record{Line: r.source.line(), Text: line}
		if err == nil {
			err = CheckText(line)
		}
		if r.header && err == nil {
			r.header = false
			continue
		}
		if err == nil {
			err = add(&record)
		}
		if err != nil {
			return nil, r.Errorf(&record, "%w", err)
		}
	}
	if len(b.Run) == 0 {
		return nil, fmt.Errorf("%s has no candidates", name)
	}
	return &b.Candidates, nil
}

type candidateBuilder struct {
	Candidates
	parse   func(*Record) error
	object  func([]byte) (Object, error) // of a format with named fields
	columns int                          // of a run
	seen    idLines
	ids     map[string]string          // of queries without an id, by text
	unnamed map[[2]string]labelledLine // documents without an id, by query and text
}

// A labelledLine is the first line of a document and its relevance there.
type labelledLine struct{ line, relevance int }

// addRunLine adds a line of a TREC run.
func (b *candidateBuilder) addRunLine(r *Record) error {
	fields := bytes.Fields(r.Text)
	if b.columns == 0 {
		b.columns = len(fields)
	}
	query, document, err := parseRunLine(fields, b.columns)
	if err != nil {
		return err
	}
	if _, ok := b.Run[query]; !ok {
		if _, _, err := b.texts.Queries.Get(query); err != nil {
			return err
		}
	}
	if found, err := b.texts.Documents.mayHave(document.ID); err != nil {
		return err
	} else if !found {
		return b.texts.Documents.missing(document.ID)
	}
	return b.add(query, document, r.Line)
}

// addRecord adds a line of MS MARCO's layout.
func (b *candidateBuilder) addRecord(r *Record) error {
	if err := b.parse(r); err != nil {
		return err
	}
	if r.QueryID == "" || r.DocumentID == "" {
		return errors.New("an id is empty; candidates need the ids of query and document")
	}
	return b.addTexts(r, measures.Retrieved{ID: r.DocumentID, Score: b.position(r.QueryID)})
}

// position returns the score of the next document of a query in the order of the file.
func (b *candidateBuilder) position(query string) float64 {
	return -float64(len(b.Run[query]) + 1)
}

// addTexts adds a candidate with its texts.
func (b *candidateBuilder) addTexts(r *Record, document measures.Retrieved) error {
	if err := keep(b.queries, "query", r.QueryID, r.Query, r.Line); err != nil {
		return err
	}
	if err := keep(b.documents, "document", document.ID, r.Document, r.Line); err != nil {
		return err
	}
	return b.add(r.QueryID, document, r.Line)
}

// keep adds a text to texts. It returns an error if its id has another text.
func keep(texts map[string]candidateText, kind, id, text string, line int) error {
	first, ok := texts[id]
	if !ok {
		texts[id] = candidateText{text, line}
		return nil
	}
	if first.text != text {
		return fmt.Errorf("%s id %q has a different text in line %d; give each %s its own id", kind, Abridge([]byte(id)), first.line, kind)
	}
	return nil
}

func (b *candidateBuilder) add(query string, document measures.Retrieved, line int) error {
	if err := b.seen.add(query, document.ID, line); err != nil {
		return err
	}
	b.Run[query] = append(b.Run[query], document)
	return nil
}

// The fields of objects with several documents of a query, and with their labels.
var (
	positiveFields = []string{"positive", "positives", "pos"}
	negativeFields = []string{"negative", "negatives", "neg"}
	listFields     = []string{"documents", "docs", "passages"}
	labelFields    = []string{"label", "relevance"}
	labelsFields   = []string{"labels", "relevances"}
	queryOwnIDs    = []string{"query_id", "qid"}
	documentOwnIDs = []string{"document_id", "doc_id", "docid", "pid"}
)

// addObject adds the candidates of an object: one document, lists of positives and
// negatives, or a list of documents with a list of labels.
func (b *candidateBuilder) addObject(r *Record) error {
	object, err := b.object(r.Text)
	if err != nil {
		return err
	}
	if r.Query, err = b.texts.Fields.query(object); err != nil {
		return err
	}
	if r.QueryID, err = b.texts.Fields.queryID(object); err != nil {
		return err
	}
	if r.QueryID == "" {
		r.QueryID = b.newQueryID(r)
	}
	positives, negatives, list := object.has(positiveFields), object.has(negativeFields), object.has(listFields)
	switch {
	case positives != "" || negatives != "":
		b.Order = Unordered
		zero, one := 0, 1
		if err := b.addList(r, object, positives, "", func(int) (*int, error) { return &one, nil }); err != nil {
			return err
		}
		return b.addList(r, object, negatives, "n", func(int) (*int, error) { return &zero, nil })
	case list != "":
		return b.addLabelled(r, object, list)
	}
	return b.addOne(r, object)
}

// newQueryID returns the id of a query without one: the line that has its text first.
func (b *candidateBuilder) newQueryID(r *Record) string {
	id, ok := b.ids[r.Query]
	if !ok {
		id = strconv.Itoa(r.Line)
		b.ids[r.Query] = id
	}
	return id
}

// addOne adds the only document of an object.
func (b *candidateBuilder) addOne(r *Record, object Object) error {
	var err error
	if r.Document, _, err = b.texts.Fields.document(object); err != nil {
		return err
	}
	if r.DocumentID, err = b.texts.Fields.documentID(object); err != nil {
		return err
	}
	var label *int
	if name := object.has(labelFields); name != "" {
		if label, err = parseLabel(object[name]); err != nil {
			return fmt.Errorf("field %q: %w", name, err)
		}
	}
	if r.DocumentID == "" {
		r.DocumentID = strconv.Itoa(r.Line)
		if err := b.checkUnnamed(r, label); err != nil {
			return err
		}
	}
	raw, scored := object["score"]
	if first := len(b.Run) == 0; first && scored {
		b.Order = ByScore
	} else if !first && b.Order != Unordered && scored != (b.Order == ByScore) {
		return errors.New(`some objects have "score" and others have none; give all of them a score of the first stage, or none`)
	}
	score := b.position(r.QueryID)
	if scored {
		if score, err = parseScore(bytes.Trim(raw, `"`)); err != nil {
			return err
		}
	}
	return b.addJudged(r, r.DocumentID, score, label)
}

// addLabelled adds a list of documents, in its order, with their labels if there are any.
func (b *candidateBuilder) addLabelled(r *Record, object Object, list string) error {
	var labels []json.RawMessage
	name := object.has(labelsFields)
	if name != "" {
		if err := json.Unmarshal(object[name], &labels); err != nil {
			return fmt.Errorf("field %q is not a list of labels: %s", name, Abridge(object[name]))
		}
	}
	return b.addList(r, object, list, "", func(i int) (*int, error) {
		if name == "" {
			return nil, nil
		}
		if i >= len(labels) {
			return nil, fmt.Errorf("field %q has %s, fewer than %q has documents", name, plural(len(labels), "label"), list)
		}
		label, err := parseLabel(labels[i])
		if err != nil {
			err = fmt.Errorf("label %d: %w", i+1, err)
		}
		return label, err
	})
}

// addList adds the documents in a field, which is a list or one document. Documents
// without an id get the line, prefix and their number.
func (b *candidateBuilder) addList(r *Record, object Object, field, prefix string, label func(int) (*int, error)) error {
	if field == "" {
		return nil
	}
	var items []json.RawMessage
	if raw := object[field]; raw[0] != '[' {
		items = []json.RawMessage{raw}
	} else if err := json.Unmarshal(raw, &items); err != nil {
		return fmt.Errorf("field %q: %w", field, err)
	}
	for i, item := range items {
		document, _, err := (&Documents{fields: Fields{Document: b.texts.Fields.Document}}).parseItem(item)
		if err != nil {
			return fmt.Errorf("field %q: item %d: %w", field, i+1, err)
		}
		judged, err := label(i)
		if err != nil {
			return err
		}
		r.Document = document.Text
		if document.ID == "" {
			document.ID = fmt.Sprintf("%d.%s%d", r.Line, prefix, i+1)
			if err := b.checkUnnamed(r, judged); err != nil {
				return err
			}
		}
		score := b.position(r.QueryID)
		if b.Order == Unordered {
			score = 0
		}
		if err := b.addJudged(r, document.ID, score, judged); err != nil {
			return err
		}
	}
	return nil
}

// checkUnnamed rejects a document without an id that the query has already with another
// relevance: the scores of both are equal, so that no ranking fits both labels.
func (b *candidateBuilder) checkUnnamed(r *Record, label *int) error {
	relevance := 0 // of a document without a judgement
	if label != nil {
		relevance = *label
	}
	key := [2]string{r.QueryID, r.Document}
	first, ok := b.unnamed[key]
	if !ok {
		b.unnamed[key] = labelledLine{r.Line, relevance}
		return nil
	}
	if first.relevance != relevance {
		return fmt.Errorf("the document %q has label %d, and the same text has label %d for this query in line %d; remove one of them",
			Abridge([]byte(r.Document)), relevance, first.relevance, first.line)
	}
	return nil
}

// addJudged adds a candidate and its label, which is nil for an unjudged document.
func (b *candidateBuilder) addJudged(r *Record, id string, score float64, label *int) error {
	if err := b.addTexts(r, measures.Retrieved{ID: id, Score: score}); err != nil || label == nil {
		return err
	}
	if b.Qrels == nil {
		b.Qrels = make(measures.Qrels)
	}
	if b.Qrels[r.QueryID] == nil {
		b.Qrels[r.QueryID] = make(map[string]int)
	}
	b.Qrels[r.QueryID][id] = *label
	return nil
}

// parseLabel parses a label: a whole number, also in quotes or as 1.0, true, false, or
// null for none.
func parseLabel(raw json.RawMessage) (*int, error) {
	text := string(bytes.Trim(raw, `"`))
	label := 0
	switch text {
	case "null", "":
		return nil, nil
	case "true":
		label = 1
	case "false":
	default:
		number, err := strconv.ParseFloat(text, 64)
		if label = int(number); err != nil || float64(label) != number {
			return nil, fmt.Errorf("label %s is not a whole number", Abridge(raw))
		}
	}
	return &label, nil
}
