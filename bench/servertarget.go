package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/mlxrank/mlxrank/bench/experiment"
	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/bench/workload"
)

// longestPause bounds the pause that a server can ask for.
const longestPause = 30 * time.Second

// A serverTarget sends requests to a server.
type serverTarget struct {
	server   *Server
	settings experiment.Settings
	workload *workload.Workload
}

func newServerTarget(s *Server, settings experiment.Settings, w *workload.Workload) *serverTarget {
	return &serverTarget{server: s, settings: settings, workload: w}
}

func (t *serverTarget) about() *results.Engine {
	return &results.Engine{Workload: t.workload.Name, WorkloadPairs: len(t.workload.Pairs), WorkloadSHA256: t.workload.SHA256}
}

// read returns nothing: this process's figures are not the server's.
func (t *serverTarget) read() gauge { return gauge{} }

// watch removes from the rows what the server did not report.
func (t *serverTarget) watch() (func(*results.Run) error, error) {
	return func(run *results.Run) error {
		known := run.Known()
		for i := range run.Samples {
			row := &run.Samples[i]
			row.CPUUsagePct = nil
			if !known.Tokenization {
				row.TokenizationMS = nil
			}
			if !known.QueueWait {
				row.QueueWaitMS = nil
			}
			if !known.Inference {
				row.InferenceMS = nil
			}
			if !known.All() {
				row.OtherMS = nil
			}
		}
		return nil
	}, nil
}

func (t *serverTarget) close(context.Context) error {
	t.server.client.CloseIdleConnections()
	return nil
}

// do sends request i. A request has one query: that of the first pair.
func (t *serverTarget) do(ctx context.Context, i int) (results.Request, error) {
	pairs := t.workload.At(i, t.settings.Batch)
	texts := make([]string, len(pairs))
	for k, pair := range pairs {
		texts[k] = pair.Document
	}
	body, err := json.Marshal(t.body(pairs[0].Query, texts))
	if err != nil {
		return results.Request{}, err
	}
	a, err := t.server.call(ctx, http.MethodPost, t.server.route(), bytes.NewReader(body), maxAnswer)
	switch {
	case ctx.Err() != nil:
		return results.Request{}, ctx.Err()
	case err != nil:
		return results.Request{}, &miss{error: err}
	case a.code != http.StatusOK:
		return results.Request{}, newMiss(a)
	}
	if err := t.check(a.data); err != nil {
		return results.Request{}, &miss{error: fmt.Errorf("invalid answer of the server: %w: %q", err, a.clipped(100))}
	}
	return newRequest(a.header, len(pairs)), nil
}

// body returns a request in the API's format.
func (t *serverTarget) body(query string, texts []string) map[string]any {
	switch t.server.api {
	case "jina":
		return map[string]any{"model": t.settings.Model, "query": query, "documents": texts, "return_documents": false}
	case "cohere":
		return map[string]any{"model": t.settings.Model, "query": query, "documents": texts}
	}
	return map[string]any{"query": query, "texts": texts, "truncate": true} // servers may reject long texts otherwise
}

// A rank is one entry of a ranking, in any of the formats.
type rank struct {
	Index *int     `json:"index"`
	TEI   *float64 `json:"score"`
	Score *float64 `json:"relevance_score"`
}

// check verifies that each document has one finite score.
func (t *serverTarget) check(data []byte) error {
	var ranks []rank
	var err error
	if t.server.api == "tei" {
		err = json.Unmarshal(data, &ranks)
	} else {
		var answer struct {
			Results []rank `json:"results"`
		}
		err = json.Unmarshal(data, &answer)
		ranks = answer.Results
	}
	if err != nil {
		return err
	}
	if len(ranks) != t.settings.Batch {
		return fmt.Errorf("found %d scores, expected %d: one per document", len(ranks), t.settings.Batch)
	}
	seen := make([]bool, t.settings.Batch)
	for _, r := range ranks {
		score := r.Score
		if t.server.api == "tei" {
			score = r.TEI
		}
		switch {
		case r.Index == nil || *r.Index < 0 || *r.Index >= len(seen):
			return errors.New("a score has no valid index")
		case seen[*r.Index]:
			return fmt.Errorf("document %d has two scores", *r.Index)
		case score == nil || math.IsNaN(*score) || math.IsInf(*score, 0): // JSON writes them as null
			return fmt.Errorf("document %d has no score", *r.Index)
		}
		seen[*r.Index] = true
	}
	return nil
}

// newMiss makes a miss of an error response. A refused request is counted and not
// repeated; its sender waits as long as the server asks.
func newMiss(a answer) *miss {
	m := &miss{error: fmt.Errorf("the server answered %s: %q", a.status, a.clipped(200))}
	if a.code == http.StatusTooManyRequests {
		m.refused, m.after = true, retryAfter(a.header.Get("Retry-After"))
	}
	return m
}

// retryAfter parses the header: seconds or a date.
func retryAfter(value string) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 {
		d = time.Duration(min(seconds, longestPause.Seconds()) * float64(time.Second))
	} else if at, err := http.ParseTime(value); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), longestPause)
}

// newRequest records what the server reports in its headers.
func newRequest(h http.Header, documents int) results.Request {
	side := &results.ServerSide{
		TotalMS: serverTime(h, "X-Total-Time"), TokenizationMS: serverTime(h, "X-Tokenization-Time"),
		QueueWaitMS: serverTime(h, "X-Queue-Time"), InferenceMS: serverTime(h, "X-Inference-Time"),
	}
	r := results.Request{Pairs: documents, Server: side}
	for _, stage := range []struct {
		to   *float64
		from *float64
	}{{&r.TokenizationMS, side.TokenizationMS}, {&r.QueueWaitMS, side.QueueWaitMS}, {&r.InferenceMS, side.InferenceMS}} {
		if stage.from != nil {
			*stage.to = *stage.from
		}
	}
	if tokens, err := strconv.Atoi(h.Get("X-Compute-Tokens")); err == nil && tokens > 0 {
		r.Tokens = tokens
	}
	return r
}

// serverTime reads a time of the server: from mlxrank's header in microseconds, else
// from text-embeddings-inference's in milliseconds. It returns nil without either.
func serverTime(h http.Header, name string) *float64 {
	for _, header := range []struct {
		name string
		unit float64
	}{{name + "-Us", 1e-3}, {name, 1}} {
		if x, err := strconv.ParseFloat(h.Get(header.name), 64); err == nil && x >= 0 && x < 1e12 {
			x *= header.unit
			return &x
		}
	}
	return nil
}
