package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// A failure is an answer that is no result.
type failure struct {
	status     int
	kind       string // TEI's error_type
	message    string // for the client: it names no text
	retryAfter int    // seconds, 0 for none
}

// The kinds of failures; those that TEI has are spelled as there.
const (
	kindValidation   = "Validation"
	kindEmpty        = "Empty"
	kindTokenizer    = "Tokenizer"
	kindOverloaded   = "Overloaded"
	kindBackend      = "Backend"
	kindUnhealthy    = "Unhealthy"
	kindUnauthorized = "Unauthorized"
	kindForbidden    = "Forbidden"
	kindNotFound     = "NotFound"
	kindTimeout      = "Timeout"
	kindCancelled    = "Cancelled"
)

const statusClientClosed = 499 // as nginx calls it; only a half-closed client sees it

func failf(status int, kind, format string, args ...any) *failure {
	return &failure{status: status, kind: kind, message: fmt.Sprintf(format, args...)}
}

func failOverloaded(format string, args ...any) *failure {
	f := failf(http.StatusTooManyRequests, kindOverloaded, format, args...)
	f.retryAfter = 1
	return f
}

func failStopping() *failure {
	f := failf(http.StatusServiceUnavailable, kindUnhealthy, "the server is stopping")
	f.retryAfter = 5
	return f
}

func (f *failure) Error() string  { return f.message }
func (f *failure) GetStatus() int { return f.status }

// failureOf is the answer to an error of the engine's, or to a context's end.
func (s *Server) failureOf(ctx context.Context, err error) *failure {
	callOf(ctx).err = err
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return s.failureOfEnd(ctx)
	case errors.Is(err, engine.ErrClosed):
		return failStopping()
	case errors.Is(err, engine.ErrOverloaded):
		f := failOverloaded("%s", plain(err))
		var refused *engine.OverloadedError
		if errors.As(err, &refused) {
			f.retryAfter = max(f.retryAfter, int(math.Ceil(refused.RetryAfter.Seconds())))
		}
		return f
	case errors.Is(err, engine.ErrTooLarge):
		return failf(http.StatusRequestEntityTooLarge, kindValidation, "%s", plain(err))
	case errors.Is(err, engine.ErrTooLong):
		return failf(http.StatusUnprocessableEntity, kindValidation, "%s", plain(err))
	case errors.Is(err, engine.ErrText):
		return failf(http.StatusUnprocessableEntity, kindTokenizer, "%s", plain(err))
	case errors.Is(err, engine.ErrUnhealthy):
		f := failf(http.StatusServiceUnavailable, kindUnhealthy, "%s", plain(err))
		f.retryAfter = 5
		return f
	}
	return failf(http.StatusInternalServerError, kindBackend, "%s", plain(err))
}

func (s *Server) failureOfEnd(ctx context.Context) *failure {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		return failf(http.StatusGatewayTimeout, kindTimeout, "not scored within %v", s.Limits.RequestTimeout)
	case errors.Is(cause, errStopping):
		return failStopping()
	}
	return failf(statusClientClosed, kindCancelled, "the client has closed the connection")
}

// plain is an engine's error as a client reads it.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "engine: ") }

// A shape is how an API spells its errors.
type shape int

const (
	shapeTEI shape = iota
	shapeJina
	shapeCohere
	shapeOpenAI // vLLM's too
)

func shapeOf(path string) shape {
	switch {
	case path == "/v1/models" || slices.Contains(scorePaths, path):
		return shapeOpenAI
	case strings.HasPrefix(path, "/v1/"):
		return shapeJina
	case strings.HasPrefix(path, "/v2/"):
		return shapeCohere
	}
	return shapeTEI
}

type teiError struct {
	Error string `json:"error"`
	Type  string `json:"error_type" doc:"Validation, Empty, Tokenizer, Overloaded, Backend, Unhealthy, Unauthorized, Forbidden, NotFound, Timeout or Cancelled"`
}

type jinaError struct {
	Detail string `json:"detail"`
}

type cohereError struct {
	Message string `json:"message"`
}

type openAIError struct {
	Error openAIFault `json:"error"`
}

type openAIFault struct {
	Message string `json:"message"`
	Type    string `json:"type" doc:"As error_type of the other routes"`
	Code    int    `json:"code" doc:"The status"`
}

// errorOf is the type of a path's errors.
func errorOf(path string) any { return (&failure{}).body(shapeOf(path)) }

// body is the failure as an API spells it.
func (f *failure) body(s shape) any {
	switch s {
	case shapeJina:
		return jinaError{f.message}
	case shapeCohere:
		return cohereError{f.message}
	case shapeOpenAI:
		return openAIError{openAIFault{f.message, f.kind, f.status}}
	}
	return teiError{f.message, f.kind}
}

func (f *failure) headers(h http.Header) {
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="mlxrank"`)
	}
}

// fail answers a call that has not reached its handler.
func fail(w http.ResponseWriter, r *http.Request, f *failure) {
	callOf(r.Context()).kind = f.kind
	data, err := json.Marshal(f.body(shapeOf(r.URL.Path)))
	if err != nil {
		panic(err) // strings are always marshalled
	}
	f.headers(w.Header())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	if _, err := w.Write(append(data, '\n')); err != nil {
		return // the client is gone
	}
}

// transform gives huma's errors, and handlers', the shape of their API. What
// huma says of a value is left out: it may be a text.
func transform(ctx huma.Context, _ string, v any) (any, error) {
	var f *failure
	switch e := v.(type) {
	case *failure:
		f = e
	case *huma.ErrorModel:
		f = failureOfModel(e)
	default:
		return v, nil
	}
	callOf(ctx.Context()).kind = f.kind
	header := http.Header{}
	f.headers(header)
	for name := range header {
		ctx.SetHeader(name, header.Get(name))
	}
	ctx.SetHeader("Content-Type", "application/json")
	return f.body(shapeOf(ctx.Operation().Path)), nil
}

// shownErrors is how many faults of a body its answer names.
const shownErrors = 3

func failureOfModel(e *huma.ErrorModel) *failure {
	kind := kindValidation
	if e.Status >= http.StatusInternalServerError {
		kind = kindBackend
	}
	var faults []string
	for _, detail := range e.Errors[:min(len(e.Errors), shownErrors)] {
		fault := detail.Message
		if detail.Location != "" {
			fault = detail.Location + ": " + fault
		}
		faults = append(faults, fault)
	}
	if more := len(e.Errors) - len(faults); more > 0 {
		faults = append(faults, fmt.Sprintf("and %d more", more))
	}
	message := e.Detail
	if len(faults) > 0 {
		message += ": " + strings.Join(faults, "; ")
	}
	return &failure{status: e.Status, kind: kind, message: message}
}
