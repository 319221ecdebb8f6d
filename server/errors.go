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
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"github.com/mlxrank/mlxrank/engine"
)

// A failure is an error as a client gets it, in the shape of its API.
type failure struct {
	status     int
	kind       string // TEI's error_type
	message    string // without any text of the request
	retryAfter int    // seconds, 0 for none
	cause      error  // the engine's error, for the log
}

// Kinds of failures. Those that TEI knows are spelled as there.
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

const statusClientClosed = 499 // nginx's number; only a client that closed its sending side alone sees it

// Reasons for cancelling a request other than the client closing the connection.
var (
	errTimeout  = errors.New("server: request timeout")
	errStopping = errors.New("server: stopping")
)

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

// newFailure translates an error of the engine, or the end of ctx.
func (s *Server) newFailure(ctx context.Context, err error) *failure {
	if deadline, ok := ctx.Deadline(); ok && errors.Is(err, context.DeadlineExceeded) && !time.Now().Before(deadline) {
		<-ctx.Done() // the engine's clock may be ahead of the context's timer
	}
	f := failf(http.StatusInternalServerError, kindBackend, "%s", plain(err))
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		f = s.failEnded(ctx)
	case errors.Is(err, engine.ErrClosed):
		f = failStopping()
	case errors.Is(err, errUnknownModel):
		f.status, f.kind = http.StatusNotFound, kindNotFound
	case errors.Is(err, errLoad):
		// The cause may name files of the machine, so that only the log has it.
		f = failf(http.StatusServiceUnavailable, kindUnhealthy, "the model cannot be loaded; the server's log has the reason")
		f.retryAfter = int(cooldown.Seconds())
	case errors.Is(err, errLoadQueue):
		f = failOverloaded("%s; try again later", plain(err))
	case errors.Is(err, engine.ErrOverloaded):
		f = failOverloaded("%s", plain(err))
		var refused *engine.OverloadedError
		if errors.As(err, &refused) {
			f.retryAfter = max(f.retryAfter, int(math.Ceil(refused.RetryAfter.Seconds())))
		}
	case errors.Is(err, engine.ErrTooSlow):
		f = failf(http.StatusRequestEntityTooLarge, kindValidation, "%s%s", plain(err), partialAdvice(ctx))
	case errors.Is(err, engine.ErrTooLarge):
		f.status, f.kind = http.StatusRequestEntityTooLarge, kindValidation
	case errors.Is(err, engine.ErrTooLong):
		f.status, f.kind = http.StatusUnprocessableEntity, kindValidation
	case errors.Is(err, engine.ErrText):
		f.status, f.kind = http.StatusUnprocessableEntity, kindTokenizer
	case errors.Is(err, engine.ErrUnhealthy):
		f.status, f.kind, f.retryAfter = http.StatusServiceUnavailable, kindUnhealthy, 5
	}
	f.cause = err
	return f
}

// failEnded reports why a request's context has ended.
func (s *Server) failEnded(ctx context.Context) *failure {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTimeout):
		return failf(http.StatusGatewayTimeout, kindTimeout, "not scored within %v", s.Limits.RequestTimeout)
	case errors.Is(cause, errDeadline):
		return failf(http.StatusGatewayTimeout, kindTimeout, "not scored by the deadline of the request; allow more time%s", partialAdvice(ctx))
	case errors.Is(cause, errStopping):
		return failStopping()
	}
	return failf(statusClientClosed, kindCancelled, "the client has closed the connection")
}

// plain returns an error without the package's name.
func plain(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "engine: "), "server: ")
}

// A shape is how an API spells its errors.
type shape int

const (
	shapeTEI shape = iota
	shapeJina
	shapeCohere
	shapeOpenAI // vLLM's too
)

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

// body returns the failure as an API spells it.
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

func (f *failure) setHeaders(h http.Header) {
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="mlxrank"`)
	}
}

// shownErrors is the number of a body's faults that its answer lists.
const shownErrors = 3

// failValidation lists faults that huma found in a body. It leaves out the
// values, which may be texts.
func failValidation(status int, errs ...error) *failure {
	var faults []string
	for _, err := range errs[:min(len(errs), shownErrors)] {
		fault := "body: " + err.Error()
		if detail := (*huma.ErrorDetail)(nil); errors.As(err, &detail) {
			fault = detail.Location + ": " + expectation(detail)
		}
		faults = append(faults, fault)
	}
	if more := len(errs) - len(faults); more > 0 {
		faults = append(faults, fmt.Sprintf("and %d more", more))
	}
	return failf(status, kindValidation, "validation failed: %s", strings.Join(faults, "; "))
}

// maximumPrefix begins huma's message about a number above the maximum.
const maximumPrefix = "expected number <= "

// expectation returns huma's message about a value with the JSON type found, and in
// the words of JSON. It never returns the value itself.
func expectation(detail *huma.ErrorDetail) string {
	found := "null"
	switch detail.Value.(type) {
	case string:
		found = "a string"
	case bool:
		found = "a boolean"
	case float64, json.Number:
		found = "a number"
	case []any:
		found = "an array"
	case map[string]any:
		found = "an object"
	}
	limit, isMaximum := strings.CutPrefix(detail.Message, maximumPrefix)
	switch list, oneOf := strings.CutPrefix(detail.Message, "expected value to be one of "); {
	case oneOf:
		return "expected one of " + strings.ReplaceAll(strings.Trim(list, `"`), "<nil>", "null")
	case isMaximum: // large ones have an exponent
		if f, err := strconv.ParseFloat(limit, 64); err == nil {
			return maximumPrefix + strconv.FormatFloat(f, 'f', -1, 64)
		}
	case detail.Message == validation.MsgExpectedMatchExactlyOneSchema, detail.Message == validation.MsgExpectedMatchAtLeastOneSchema:
		return "expected one of the forms in /docs, found " + found
	case slices.Contains([]string{validation.MsgExpectedString, validation.MsgExpectedBoolean, validation.MsgExpectedNumber,
		validation.MsgExpectedInteger, validation.MsgExpectedArray, validation.MsgExpectedObject}, detail.Message):
		return detail.Message + ", found " + found
	}
	return detail.Message
}
