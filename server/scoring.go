package server

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// A format is one API's form of requests and answers.
type format struct {
	name    string // in logs and traces
	shape   shape
	in, out reflect.Type
	// matches reports whether a body is in the format, by its fields. A route of one
	// format asks nothing.
	matches func(fields) bool
	marks   bool // answers can mark results as unscored
	// score validates and decodes a body, scores it and encodes the answer.
	score func(ctx context.Context, c call, body *parsedBody) ([]byte, outcome)
}

// marking declares that the format's answers can mark results as unscored.
func (f *format) marking() *format {
	f.marks = true
	return f
}

// newFormat makes the format whose bodies are In and whose answers are Out.
func newFormat[In, Out any](s *Server, name string, shape shape, matches func(fields) bool, score func(context.Context, *In) (Out, outcome)) *format {
	f := &format{name: name, shape: shape, matches: matches, in: reflect.TypeFor[In](), out: reflect.TypeFor[Out]()}
	schema := s.schemas.Schema(f.in, true, "")
	f.score = func(ctx context.Context, c call, body *parsedBody) ([]byte, outcome) {
		var in In
		if failed := s.decode(schema, body, &in); failed != nil {
			return nil, outcome{failure: failed}
		}
		if asked, ok := any(&in).(interface{ deadlineOptions() *DeadlineOptions }); ok {
			var failed *failure
			if c, failed = c.with(asked.deadlineOptions(), f.marks); failed != nil {
				return nil, outcome{failure: failed}
			}
		}
		ctx, cancel := c.begin(ctx)
		defer cancel()
		out, o := score(ctx, &in)
		o.priority, o.deadline = c.priority, c.deadline
		if o.failure != nil {
			return nil, o
		}
		o.latency = time.Since(c.start)
		return encode(out), o
	}
	return f
}

// scoring makes an operation that takes the first format that matches a body, or
// the first of all.
func (s *Server) scoring(id, summary string, samples examples, formats ...*format) *operation {
	return &operation{
		id: id, tag: "scoring", summary: summary, examples: samples, formats: formats, errors: scoringErrors,
		handle: func(a *answer, r *http.Request) outcome { return s.admit(a, r, formats) },
	}
}

// admit reads a scoring request's body and scores it. A client that is slow to
// send or to read is not counted among the running requests.
func (s *Server) admit(a *answer, r *http.Request, formats []*format) outcome {
	if f := s.arrive(); f != nil {
		a.Header().Set("Connection", "close")
		return outcome{failure: f}
	}
	defer s.depart()
	if !isJSON(r) {
		return outcome{failure: failf(http.StatusUnsupportedMediaType, kindValidation, "the content type must be application/json")}
	}
	if f := a.client.begin(); f != nil {
		return outcome{failure: f}
	}
	defer a.client.end()
	body, f := s.readJSON(a, r)
	size := int64(len(body))
	s.received.Add(size)
	if f == nil {
		f = s.Limits.checkBody(body)
	}
	if f != nil {
		endConnection(a, r)
	} else {
		f = s.enter()
	}
	if f != nil {
		s.bodies.give(size)
		return outcome{failure: f, bytesIn: len(body)}
	}
	data, o := s.run(a, r, formats, body)
	o.bytesIn = len(body)
	if o.failure == nil {
		o.failure = s.send(a, data, &o)
	}
	return o
}

// run scores a request that has entered, and releases what it holds.
func (s *Server) run(a *answer, r *http.Request, formats []*format, data []byte) ([]byte, outcome) {
	defer s.leave()
	defer s.bodies.give(int64(len(data)))
	body := parseBody(data)
	format := body.format(formats)
	a.shape = format.shape
	c, failed := newCall(a.start, r.Header)
	if failed != nil {
		return nil, outcome{failure: failed, format: format.name}
	}
	ctx, cancel := context.WithDeadlineCause(withClient(withoutCache(r.Context(), r), a.client), a.start.Add(s.Limits.RequestTimeout), errTimeout)
	defer cancel()
	answer, o := format.score(ctx, c, body)
	o.format = format.name
	return answer, o
}

// shortAnswer is the size, in bytes, up to which an answer is always sent.
const shortAnswer = 64 << 10

// send writes an answer. Long ones share a budget, because clients that read
// nothing would fill the memory with them.
func (s *Server) send(a *answer, data []byte, o *outcome) *failure {
	if n := int64(len(data)); n > shortAnswer {
		if !s.answers.take(n) {
			return failOverloaded("answers that clients have not read yet hold %d bytes (limit %d); try again later", s.answers.taken.Load(), s.answers.limit)
		}
		defer s.answers.give(n)
	}
	for _, header := range stageHeaders(string(o.model.info.Device), o) {
		a.Header().Set(header.name, header.value)
	}
	if o.partialMark() {
		a.Header().Set(headerUnscored, strconv.Itoa(len(o.result.Unscored)))
	}
	if r := o.result; r.CacheHits+r.CacheMisses > 0 {
		a.Header().Set(cacheHeader, fmt.Sprintf("hits=%d, misses=%d", r.CacheHits, r.CacheMisses))
	}
	a.Header().Set("Content-Length", strconv.Itoa(len(data)))
	if o.deadline > 0 {
		s.Models.deadlines.add(o.model.name, time.Since(a.start) <= o.deadline)
	}
	a.sendJSON(http.StatusOK, data)
	return nil
}

// cacheHeader is the header with the distinct pairs that were known and that were not,
// if the engine has a cache.
const cacheHeader = "X-Cache"

// noCache is the key of a context whose request must not be answered from the cache.
type noCache struct{}

// withoutCache marks the context of a request that refuses cached results, by the header
// Cache-Control. Benchmarks do.
func withoutCache(ctx context.Context, r *http.Request) context.Context {
	for _, value := range r.Header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(value, ",") {
			switch strings.ToLower(strings.TrimSpace(directive)) {
			case "no-cache", "no-store":
				return context.WithValue(ctx, noCache{}, true)
			}
		}
	}
	return ctx
}

// A stageHeader says where a request's time went.
type stageHeader struct{ name, value, doc string }

// stageHeaders are TEI's, in milliseconds, and the same in microseconds.
func stageHeaders(device string, o *outcome) []stageHeader {
	t := o.result.Timings
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	us := func(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }
	return []stageHeader{
		{"X-Compute-Type", device, "The device that scored: cpu or gpu"},
		{"X-Compute-Time", ms(o.latency), "Milliseconds from the request's headers to its scores"},
		{"X-Compute-Characters", strconv.Itoa(o.characters), "Characters of the query and the documents"},
		{"X-Compute-Tokens", strconv.Itoa(o.result.Tokens + o.result.CachedTokens), "Tokens of all pairs, without padding"},
		{"X-Total-Time", ms(o.latency), "Milliseconds"},
		{"X-Tokenization-Time", ms(t.Tokenization), "Milliseconds"},
		{"X-Queue-Time", ms(t.QueueWait), "Milliseconds"},
		{"X-Inference-Time", ms(t.Inference), "Milliseconds"},
		{"X-Total-Time-Us", us(o.latency), "Microseconds"},
		{"X-Tokenization-Time-Us", us(t.Tokenization), "Microseconds"},
		{"X-Queue-Time-Us", us(t.QueueWait), "Microseconds"},
		{"X-Inference-Time-Us", us(t.Inference), "Microseconds"},
	}
}

// ModelOption names the model that answers. It is exported because the schema leaves out
// unexported embedded types.
type ModelOption struct {
	Model *string `json:"model,omitempty" nullable:"true" doc:"Name or alias of a served model, which GET /v1/models lists; without it the default model answers"`
}

// hold returns the model that a request names. release must follow a success.
func (s *Server) hold(ctx context.Context, named ModelOption) (model *loadedModel, release func(), f *failure) {
	slot, err := s.Models.find(deref(named.Model, ""), s.AnyModel)
	if err == nil {
		model, err = s.Models.acquire(ctx, slot)
	}
	if err != nil {
		return nil, nil, s.newFailure(ctx, err)
	}
	return model, func() { s.Models.release(slot) }, nil
}

// rank ranks documents, best first; equal logits keep the order given. The outcome has
// the model that answered.
func (s *Server) rank(ctx context.Context, named ModelOption, query string, documents []string, opts engine.RerankOptions, raw *bool) ([]engine.Ranked, outcome) {
	o := newOutcome(documents, utf8.RuneCountInString(query))
	if o.failure = s.Limits.check(&o); o.failure != nil {
		return nil, o
	}
	model, release, f := s.hold(ctx, named)
	if o.failure = f; f != nil {
		return nil, o
	}
	defer release()
	o.model = model
	if o.failure = clientOf(ctx).takePairs(o.documents, time.Now()); o.failure != nil {
		return nil, o
	}
	opts.ScoreOptions = model.byLabel(options(ctx, opts.ScoreOptions), raw)
	ranking, err := model.Rerank(ctx, query, documents, opts)
	if err != nil {
		o.failure = s.newFailure(ctx, err)
		return nil, o
	}
	o.result, o.scored = &ranking.Result, time.Now()
	for _, item := range ranking.Items {
		if !item.Unscored {
			o.checkFinite(item.Index, item.Logit)
		}
	}
	return ranking.Items, o
}

// newPairs pairs a query with each of its documents.
func newPairs(query string, documents []string) []engine.Pair {
	pairs := make([]engine.Pair, len(documents))
	for i, d := range documents {
		pairs[i] = engine.Pair{Query: query, Document: d}
	}
	return pairs
}

// scorePairs scores pairs in the order given. The outcome has the model that answered.
func (s *Server) scorePairs(ctx context.Context, named ModelOption, pairs []engine.Pair, long engine.Long, opts engine.ScoreOptions, raw *bool) (*engine.Result, outcome) {
	documents, queries := make([]string, len(pairs)), 0
	for i, p := range pairs {
		documents[i] = p.Document
		queries += utf8.RuneCountInString(p.Query)
	}
	o := newOutcome(documents, queries)
	if o.failure = s.Limits.check(&o); o.failure != nil {
		return nil, o
	}
	model, release, f := s.hold(ctx, named)
	if o.failure = f; f != nil {
		return nil, o
	}
	defer release()
	o.model = model
	if o.failure = clientOf(ctx).takePairs(o.documents, time.Now()); o.failure != nil {
		return nil, o
	}
	opts = model.byLabel(opts, raw)
	score := model.ScoreWith
	if long == engine.Passages {
		score = model.ScorePassages
	}
	result, err := score(ctx, pairs, options(ctx, opts))
	if err != nil {
		o.failure = s.newFailure(ctx, err)
		return nil, o
	}
	o.result, o.scored = result, time.Now()
	for i, logit := range result.Logits {
		o.checkFinite(i, logit)
	}
	return result, o
}

// newOutcome counts a request's documents; characters counts its queries'.
func newOutcome(documents []string, characters int) outcome {
	o := outcome{documents: len(documents), characters: characters}
	for _, d := range documents {
		o.characters += utf8.RuneCountInString(d)
		if engine.IsEmpty(d) {
			o.empty++
		}
	}
	return o
}

// checkFinite keeps NaN and infinity out of answers.
func (o *outcome) checkFinite(document int, logit float32) {
	if f := float64(logit); o.failure == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
		o.failure = failf(http.StatusInternalServerError, kindBackend, "document %d has no finite score", document)
	}
}

// LongOptions holds the options for long documents, which every scoring request may
// have. It is exported because the schema leaves out unexported embedded types.
type LongOptions struct {
	LongDocuments *longMode `json:"long_documents,omitempty" nullable:"true" doc:"What to do with documents that exceed the model's maximum length: truncate (the default), or passages: score overlapping passages and take the best; an extension of mlxrank"`
	Long          *longMode `json:"long,omitempty" nullable:"true" deprecated:"true" doc:"Deprecated name of long_documents, accepted for one more release"`
}

// LogitOptions ask for logits, which every scoring request may do. It is exported as
// LongOptions is.
type LogitOptions struct {
	RawScores     *bool `json:"raw_scores,omitempty" nullable:"true" doc:"Return logits instead of scores of 0 to 1"`
	UseActivation *bool `json:"use_activation,omitempty" nullable:"true" doc:"vLLM's name of the same choice: false returns logits"`
}

// raw reports whether the request asks for logits.
func (l *LogitOptions) raw() *bool {
	raw := deref(l.RawScores, false) || !deref(l.UseActivation, true)
	return &raw
}

type longMode string

const (
	longPassages longMode = "passages"
	longWindow   longMode = "window" // the old name of passages, accepted for one more release
)

// Schema lists the choices; null is the default.
func (longMode) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: []any{string(engine.Truncate), string(longPassages), string(longWindow), nil}}
}

// choice returns the engine's option.
func (l *LongOptions) choice() engine.Long {
	switch mode := deref(cmp.Or(l.LongDocuments, l.Long), ""); mode {
	case longPassages, longWindow:
		return engine.Passages
	default:
		return engine.Long(mode)
	}
}

// byLabel returns the options that make the logits for toScore. With several labels these
// are log-odds, whose sigmoid is the softmax over the labels. Raw scores are log-odds too,
// so that documents have one order with and without raw_scores. Only an answer that lists
// all labels has the classifier's logits as raw scores, as TEI's has.
func (m *loadedModel) byLabel(opts engine.ScoreOptions, raw *bool) engine.ScoreOptions {
	if len(m.info.Labels) < 2 {
		opts.AllLabels = false
		return opts
	}
	opts.Activation = engine.Softmax
	if opts.AllLabels && deref(raw, false) {
		opts.Activation = engine.Raw
	}
	return opts
}

// toScore maps a logit to 0 to 1, as clients of every API expect whatever the
// engine's activation is, unless the request asks for raw scores. The model's
// calibration applies, if any. It computes in float64, in which scores keep the order
// of logits up to 36; in float32 all scores are 1 from 17 on.
func (m *loadedModel) toScore(logit float32, raw *bool) float64 {
	if deref(raw, false) {
		return float64(logit)
	}
	return m.info.Calibration.Score(float64(logit))
}

// An integer reads 5.0 as 5, as JSON does and int does not.
type integer int

// Schema describes an integer or null; the field's tag sets the minimum.
func (integer) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Nullable: true}
}

// UnmarshalJSON reads a number that the schema has accepted.
func (n *integer) UnmarshalJSON(data []byte) error {
	var f float64
	err := unmarshal(data, &f)
	*n = integer(min(f, math.MaxInt32))
	return err
}

func deref[T any](p *T, other T) T {
	if p == nil {
		return other
	}
	return *p
}
