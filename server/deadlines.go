package server

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// Deadlines and priorities are extensions of all formats. A client gives its deadline
// by a header or by a field of the body, and its priority by a header.

const (
	headerDeadline = "X-Deadline-Ms"
	headerPriority = "X-Priority"
	headerUnscored = "X-Unscored" // of answers
)

// maxDeadlineMS is the longest deadline, about 25 days.
const maxDeadlineMS = math.MaxInt32

// A requestHeader is a header that every scoring request may have.
type requestHeader struct {
	name, doc string
	schema    huma.Schema
}

var requestHeaders = []requestHeader{
	{headerDeadline, "Milliseconds from the request's headers until its answer is of no use; as the field deadline_ms", huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.), Maximum: pointer(float64(maxDeadlineMS))}},
	{headerPriority, "interactive, the default, or batch: batch requests leave the device to interactive ones", huma.Schema{Type: huma.TypeString, Enum: []any{string(engine.PriorityInteractive), string(engine.PriorityBatch)}}},
	{headerRequestID, "Name of the request for logs and traces, which the answer repeats: up to 128 letters, digits and -_.:=@+/; another one is replaced", huma.Schema{Type: huma.TypeString}},
}

func pointer[T any](v T) *T { return &v }

// errDeadline is why a request ends at its client's own deadline.
var errDeadline = errors.New("server: deadline of the request")

// DeadlineOptions holds the options for deadlines, which every scoring request may have.
// It is exported because the schema leaves out unexported embedded types.
type DeadlineOptions struct {
	DeadlineMS *integer    `json:"deadline_ms,omitempty" nullable:"true" minimum:"1" maximum:"2147483647" doc:"Milliseconds from the request's headers until its answer is of no use; the header X-Deadline-Ms is the same; an extension of mlxrank"`
	OnDeadline *onDeadline `json:"on_deadline,omitempty" nullable:"true" doc:"What to answer at the deadline: fail (the default), or partial: the results scored by then, and behind them the others, marked as unscored; an extension of mlxrank"`
}

func (d *DeadlineOptions) deadlineOptions() *DeadlineOptions { return d }

type onDeadline string

const partialOnDeadline onDeadline = "partial"

// Schema lists the choices; null is the default.
func (onDeadline) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, Enum: []any{"fail", string(partialOnDeadline), nil}}
}

// A call is what a request asks for besides its scores.
type call struct {
	start    time.Time
	deadline time.Duration   // from the start, 0 for none
	priority engine.Priority // "" is interactive
	partial  bool
	marks    bool // its format can mark results as unscored
}

// newCall reads a request's headers.
func newCall(start time.Time, h http.Header) (call, *failure) {
	c := call{start: start}
	if values := h.Values(headerDeadline); len(values) > 0 {
		ms, err := strconv.ParseUint(values[0], 10, 31) // takes no sign
		if err != nil || ms < 1 {
			return c, failf(http.StatusBadRequest, kindValidation, "the header %s is not a whole number of milliseconds from 1 to %d", headerDeadline, maxDeadlineMS)
		}
		c.deadline = time.Duration(ms) * time.Millisecond
	}
	switch values := h.Values(headerPriority); {
	case len(values) == 0:
	case slices.Contains([]engine.Priority{engine.PriorityInteractive, engine.PriorityBatch}, engine.Priority(values[0])):
		c.priority = engine.Priority(values[0])
	default:
		return c, failf(http.StatusBadRequest, kindValidation, "the header %s is neither %s nor %s", headerPriority, engine.PriorityInteractive, engine.PriorityBatch)
	}
	return c, nil
}

// with adds the options of a body. The earlier deadline counts.
func (c call) with(d *DeadlineOptions, marks bool) (call, *failure) {
	if ms := time.Duration(deref(d.DeadlineMS, 0)) * time.Millisecond; ms > 0 && (c.deadline == 0 || ms < c.deadline) {
		c.deadline = ms
	}
	c.marks = marks
	c.partial = deref(d.OnDeadline, "") == partialOnDeadline
	if c.partial && !marks {
		return c, failf(http.StatusBadRequest, kindValidation, "on_deadline cannot be partial here: clients match the scores of this format with their inputs by position, so none can be left out; rank at /rerank, /v1/rerank or /v2/rerank instead")
	}
	return c, nil
}

// partialAdvice advises the client of the context's call to ask for a partial answer, after
// what else it can do. It is "" where the call has asked for that, or its format has none.
func partialAdvice(ctx context.Context) string {
	if c, ok := ctx.Value(callKey{}).(call); ok && c.marks && !c.partial {
		return ", or ask for the results scored by then with on_deadline"
	}
	return ""
}

type callKey struct{}

// begin returns the context of the call's scoring, which ends at its deadline.
func (c call) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = context.WithValue(ctx, callKey{}, c)
	if c.deadline == 0 {
		return ctx, func() {}
	}
	return context.WithDeadlineCause(ctx, c.start.Add(c.deadline), errDeadline)
}

// options adds what the call of the context asks for.
func options(ctx context.Context, opts engine.ScoreOptions) engine.ScoreOptions {
	opts.NoCache = ctx.Value(noCache{}) != nil
	if c, ok := ctx.Value(callKey{}).(call); ok {
		opts.Partial, opts.Priority = c.partial, c.priority
	}
	return opts
}

// partialMark marks an answer that lacks scores.
func (o *outcome) partialMark() bool { return o.result != nil && len(o.result.Unscored) > 0 }

// itemScore returns the score of an item as toScore does, nil if it has none.
func (m *loadedModel) itemScore(item engine.Ranked, raw *bool) *float64 {
	if item.Unscored {
		return nil
	}
	return pointer(m.toScore(item.Logit, raw))
}
