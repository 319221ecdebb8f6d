package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sync/semaphore"

	"github.com/mlxrank/mlxrank/cli/internal/files"
	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/server"
)

// A tool ranks documents and files within the limits of a server.
type tool struct {
	engine *engine.Engine
	roots  *files.Roots
	limits server.Limits

	running atomic.Int64        // calls
	readers chan struct{}       // holds one element for each call that reads files
	texts   *semaphore.Weighted // bytes of the texts of running calls
}

func newTool(e *engine.Engine, roots *files.Roots, limits server.Limits) *tool {
	limits.BodyBytesAtOnce = max(server.DefaultLimits().BodyBytesAtOnce, limits.BodyBytes)
	return &tool{
		engine: e, roots: roots, limits: limits,
		readers: make(chan struct{}, max(2, runtime.GOMAXPROCS(0))), texts: semaphore.NewWeighted(limits.BodyBytesAtOnce),
	}
}

// An answer is the result of a call.
type answer struct {
	Model    string   `json:"model"`
	Ranked   int      `json:"ranked"`             // documents or files
	Unscored int      `json:"unscored,omitempty"` // of these, because the deadline came first
	Results  []result `json:"results"`
	LeftOut  *leftOut `json:"left_out,omitempty"`
}

// A result is a ranked document or file.
type result struct {
	Index    *int     `json:"index,omitempty"`
	Path     string   `json:"path,omitempty"`
	Score    *float32 `json:"score,omitempty"`
	Unscored bool     `json:"unscored,omitempty"`
	Passage  string   `json:"passage,omitempty"`
}

// leftOut counts the files without text that can be ranked.
type leftOut struct {
	Files int      `json:"files"`
	First []string `json:"first"` // a few of them, with the reason
}

type object = map[string]any

// description describes the tool to a client.
func (t *tool) description() *sdk.Tool {
	info := t.engine.Info()
	paths := "No path is allowed: the program was started without --root."
	if roots := t.roots.Paths(); len(roots) > 0 {
		paths = "Files, folders or patterns such as docs/**/*.md to rank, below " + strings.Join(roots, " or ") + "."
		if len(roots) > 1 {
			paths += " Paths are absolute."
		}
	}
	no := false
	return &sdk.Tool{
		Name: "rerank", Title: "Rank documents by relevance",
		Description: "Ranks texts or whole files by how well they answer a query, best first, with the cross-encoder " + info.Model + ". " +
			"Give either documents or paths. A long text or file is ranked by its best passage, which the result has. " +
			"A higher score is a better answer; scores of different queries are comparable only roughly.",
		Annotations: &sdk.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: &no},
		InputSchema: object{
			"type": "object", "required": []string{"query"}, "additionalProperties": false,
			"properties": object{
				"query":       object{"type": "string", "minLength": 1, "description": "A question or key words."},
				"documents":   object{"type": "array", "items": object{"type": "string"}, "maxItems": t.limits.Documents, "description": "Texts to rank."},
				"paths":       object{"type": "array", "items": object{"type": "string"}, "maxItems": t.limits.Documents, "description": paths},
				"top_n":       object{"type": "integer", "minimum": 1, "default": defaultTopN, "description": "Max results."},
				"deadline_ms": object{"type": "integer", "minimum": 1, "description": "Milliseconds to wait for the answer. Results that are not scored by then are last, marked as unscored."},
			},
		},
		OutputSchema: object{
			"type": "object", "required": []string{"model", "ranked", "results"},
			"properties": object{
				"model":    object{"type": "string"},
				"ranked":   object{"type": "integer", "description": "Number of documents or files that were ranked."},
				"unscored": object{"type": "integer", "description": "How many of them have no score, because the deadline came first."},
				"results": object{"type": "array", "description": "The best first.", "items": object{
					"type": "object",
					"properties": object{
						"index":    object{"type": "integer", "description": "Of a document, from 0."},
						"path":     object{"type": "string", "description": "Of a file."},
						"score":    object{"type": "number"},
						"unscored": object{"type": "boolean", "description": "Whether the deadline came first."},
						"passage":  object{"type": "string", "description": "The best passage of a file or a long document."},
					},
				}},
				"left_out": object{
					"type": "object", "required": []string{"files", "first"}, "description": "Files that were not ranked.",
					"properties": object{
						"files": object{"type": "integer"},
						"first": object{"type": "array", "items": object{"type": "string"}, "description": "A few of them, with the reason."},
					},
				},
			},
		},
	}
}

type callerKey struct{}

// withCaller returns a context for the SDK, which keeps the values of a request's context
// for a tool, but not its end.
func withCaller(ctx context.Context) context.Context {
	return context.WithValue(ctx, callerKey{}, ctx)
}

// untilCallerLeaves returns a context that ends when the client closes the connection of
// its call, too.
func untilCallerLeaves(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	caller, ok := ctx.Value(callerKey{}).(context.Context)
	if !ok {
		return ctx, cancel // of the standard streams
	}
	stop := context.AfterFunc(caller, cancel)
	return ctx, func() { stop(); cancel() }
}

// handle answers a call. A failure is the tool's, which a model reads, and not the
// protocol's.
func (t *tool) handle(ctx context.Context, request *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
	ctx, cancel := untilCallerLeaves(ctx)
	defer cancel()
	answer, err := t.rerank(ctx, request.Params.Arguments)
	var text []byte
	if err == nil {
		text, err = json.Marshal(answer)
	}
	if err != nil {
		failed := &sdk.CallToolResult{}
		failed.SetError(err)
		return failed, nil
	}
	return &sdk.CallToolResult{StructuredContent: json.RawMessage(text), Content: []sdk.Content{&sdk.TextContent{Text: string(text)}}}, nil
}

// rerank checks the arguments of a call and ranks what they name.
func (t *tool) rerank(ctx context.Context, data []byte) (*answer, error) {
	if int64(len(data)) > t.limits.BodyBytes {
		return nil, fmt.Errorf("the arguments have %d bytes (limit %d); split the call", len(data), t.limits.BodyBytes)
	}
	in, err := parseArguments(data)
	if err != nil {
		return nil, err
	}
	defer t.running.Add(-1)
	if n := t.running.Add(1); n > int64(t.limits.Requests) {
		return nil, fmt.Errorf("too many calls: %d are running (limit %d); try again later", n-1, t.limits.Requests)
	}
	limit := t.limits.RequestTimeout
	if in.DeadlineMS > 0 {
		limit = min(limit, time.Duration(in.DeadlineMS)*time.Millisecond)
	}
	bounded, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, ranking, err := t.rank(bounded, in)
	switch {
	case err == nil:
		return t.newAnswer(found, ranking), nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("not scored within %v; allow more time with deadline_ms, of which at most %v count, or rank less text", limit, t.limits.RequestTimeout)
	}
	return nil, err
}

// A collection has the texts of a call.
type collection struct {
	texts   []string
	paths   []string // of files, nil for documents
	skipped *files.Skipped
	bytes   int64 // held of tool.texts
}

// rank reads and ranks the texts of a call.
func (t *tool) rank(ctx context.Context, in arguments) (*collection, *engine.Ranking, error) {
	c := &collection{}
	defer func() { t.texts.Release(c.bytes) }()
	if err := t.collect(ctx, in, c); err != nil {
		return nil, nil, err
	}
	options := engine.RerankOptions{Long: engine.Passages, TopN: int(in.TopN)}
	options.Partial = in.DeadlineMS > 0
	ranking, err := t.engine.Rerank(ctx, in.Query, c.texts, options)
	return c, ranking, c.locate(err)
}

// collect fills c with the texts that the arguments have or name.
func (t *tool) collect(ctx context.Context, in arguments, c *collection) error {
	characters := utf8.RuneCountInString(in.Query)
	accept := func(text string) error {
		if characters += utf8.RuneCountInString(text); characters > t.limits.Characters {
			return fmt.Errorf("too many characters: %d or more (limit %d); split the call", characters, t.limits.Characters)
		}
		size := int64(len(text))
		if c.bytes+size > t.limits.BodyBytes {
			return fmt.Errorf("too many bytes: %d or more (limit %d); split the call", c.bytes+size, t.limits.BodyBytes)
		}
		if t.texts.TryAcquire(size) {
			c.bytes += size
			return nil
		}
		return fmt.Errorf("the texts of running calls exceed %d bytes; try again later", t.limits.BodyBytesAtOnce)
	}
	if len(in.Paths) > 0 {
		return t.read(ctx, in.Paths, c, accept)
	}
	if n := len(in.Documents); n > t.limits.Documents {
		return fmt.Errorf("too many documents: %d (limit %d); split the call", n, t.limits.Documents)
	}
	for _, text := range in.Documents {
		if err := accept(text); err != nil {
			return err
		}
	}
	c.texts = in.Documents
	return nil
}

// read fills c with the texts of files.
func (t *tool) read(ctx context.Context, paths []string, c *collection, accept func(string) error) error {
	if len(t.roots.Paths()) == 0 {
		return errors.New("paths are not allowed; start mlxrank mcp with --root DIR, or give texts as documents")
	}
	if n := len(paths); n > t.limits.Documents {
		return fmt.Errorf("too many paths: %d (limit %d); split the call", n, t.limits.Documents)
	}
	patterns := make([]string, len(paths))
	for i, path := range paths {
		var err error
		if patterns[i], err = t.roots.Resolve(path); err != nil {
			return err
		}
	}
	select { // reading takes memory of its own, so the number of readers is limited
	case t.readers <- struct{}{}:
		defer func() { <-t.readers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	found, skipped, err := files.Read(ctx, t.roots, patterns, files.Options{MaxFiles: t.limits.Documents, Accept: accept})
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return fmt.Errorf("%w; give a path that exists, below the roots, from which no link leads out", err)
	}
	if err != nil {
		return err
	}
	c.skipped = skipped
	for _, document := range found.List {
		c.texts, c.paths = append(c.texts, document.Text), append(c.paths, document.ID)
	}
	return nil
}

// locate adds to an error of the engine which text is bad.
func (c *collection) locate(err error) error {
	var text *engine.TextError
	if !errors.As(err, &text) {
		return err
	}
	where := fmt.Sprintf("document %d", text.Index)
	switch {
	case text.Query:
		where = "query"
	case c.paths != nil:
		where = c.paths[text.Index]
	}
	return fmt.Errorf("%s: %w: %w", where, text.Kind, text.Err)
}

// newAnswer describes a ranking.
func (t *tool) newAnswer(c *collection, ranking *engine.Ranking) *answer {
	a := &answer{Model: t.engine.Info().Model, Ranked: len(c.texts), Unscored: len(ranking.Unscored), Results: make([]result, len(ranking.Items))}
	for i, item := range ranking.Items {
		text := c.texts[item.Index]
		r := result{Unscored: item.Unscored}
		if c.paths != nil {
			r.Path = c.paths[item.Index]
		} else {
			r.Index = &item.Index
		}
		if !item.Unscored {
			r.Score = &item.Score
			if p := item.Passage; p != nil {
				r.Passage = text[p.Start:p.End]
			} else if c.paths != nil {
				r.Passage = text
			}
		}
		a.Results[i] = r
	}
	if s := c.skipped; s != nil && s.Total() > 0 {
		a.LeftOut = &leftOut{Files: s.Total(), First: s.Reasons}
	}
	return a
}
