package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// The admin route changes which models are served, without a pause: requests that run
// finish with the model that they have.

// An adminChange is a change of the served models.
type adminChange struct {
	Action adminAction `json:"action" doc:"load: load the model now. unload: free its memory; the next request loads it again. remove: unload it and serve it no longer, or take away an alias alone. default: load it, then let it answer requests that name no model. alias: load it, then let the alias name it"`
	Model  string      `json:"model" minLength:"1" doc:"Name or alias of a served model. load, default and alias also take a model that is not served yet: a Hugging Face id, a directory, or builtin"`
	Alias  string      `json:"alias,omitempty" doc:"For the action alias: the further name, without spaces; it may be an alias of another model so far"`
}

type adminAction string

const (
	actionLoad    adminAction = "load"
	actionUnload  adminAction = "unload"
	actionRemove  adminAction = "remove"
	actionDefault adminAction = "default"
	actionAlias   adminAction = "alias"
)

// Schema lists the actions.
func (adminAction) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Enum: []any{string(actionLoad), string(actionUnload), string(actionRemove), string(actionDefault), string(actionAlias)}}
}

type adminModels struct {
	Models []ServedModel `json:"models" nullable:"false" doc:"All models after the change, the default one first"`
}

const (
	exampleLoad  = `{"action": "load", "model": "builtin"}`
	exampleAlias = `{"action": "alias", "alias": "rerank-v3.5", "model": "builtin"}`
)

var adminExamples = examples{"load": example("Load a model", exampleLoad), "alias": example("Switch an alias", exampleAlias)}

// mostModels caps the models that the admin route adds, and with them the series of the
// metrics.
const mostModels = 64

// adminRoute lets the holders of the key change the served models.
func (s *Server) adminRoute() *route {
	schema := s.schemas.Schema(reflect.TypeFor[adminChange](), true, "")
	get := state("admin-models", "The served models", adminModels{}, func(context.Context) (any, *failure) { return adminModels{s.Models.List()}, nil })
	post := &operation{
		id: "admin-change-models", tag: "admin", summary: "Load, unload or switch models", request: reflect.TypeFor[adminChange](), body: adminModels{}, examples: adminExamples,
		errors: []int{
			http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
			http.StatusUnprocessableEntity, http.StatusTooManyRequests, statusClientClosed, http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
		},
		handle: func(a *answer, r *http.Request) outcome {
			if !isJSON(r) {
				return outcome{failure: failf(http.StatusUnsupportedMediaType, kindValidation, "the content type must be application/json")}
			}
			body, f := s.readJSON(a, r)
			defer s.bodies.give(int64(len(body)))
			var change adminChange
			if f == nil {
				f = s.decode(schema, parseBody(body), &change)
			}
			if f == nil {
				f = s.changeModels(r.Context(), change)
			}
			if f == nil {
				a.sendJSON(http.StatusOK, encode(adminModels{s.Models.List()}))
			}
			return outcome{failure: f, bytesIn: len(body)}
		},
	}
	get.tag = "admin"
	return &route{path: "/admin/models", access: accessAdmin, get: get, post: post}
}

// changeModels makes a change and waits until it is done.
func (s *Server) changeModels(ctx context.Context, change adminChange) *failure {
	ctx, cancel := context.WithDeadlineCause(ctx, time.Now().Add(s.Limits.RequestTimeout), errTimeout)
	defer cancel()
	err := s.Models.change(ctx, change)
	s.Logger.Info().Str("action", string(change.Action)).Str("model", change.Model).Str("alias", change.Alias).Err(err).Msg("admin")
	var refused *refusal
	switch {
	case err == nil:
		if change.Action == actionRemove {
			s.metrics.forget(change.Model)
		}
		return nil
	case errors.As(err, &refused) && refused.passes:
		f := failf(http.StatusServiceUnavailable, kindUnhealthy, "%s; try again later", plain(err))
		f.retryAfter = 1
		return f
	case errors.As(err, &refused):
		return failf(http.StatusUnprocessableEntity, kindValidation, "%s", plain(err))
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), errTimeout):
		return failf(http.StatusGatewayTimeout, kindTimeout, "not done within %v; it goes on: GET /admin/models shows when it is done", s.Limits.RequestTimeout)
	}
	f := s.newFailure(ctx, err)
	if errors.Is(err, errLoad) { // whoever has the key may know the cause
		f.message = plain(err)
		if !mayPass(err) {
			f.status, f.kind, f.retryAfter = http.StatusUnprocessableEntity, kindValidation, 0
		}
	}
	return f
}

// mayPass reports whether a load that has failed can succeed later, although neither the
// request nor the model changes: the network, the hub, the device, the memory or the disk
// may recover. Other errors are mistakes in the request, the model or the flags.
func mayPass(err error) bool {
	for _, passing := range []error{
		engine.ErrClosed, engine.ErrUnhealthy, engine.ErrOverloaded, context.Canceled, context.DeadlineExceeded,
		syscall.ENOSPC, syscall.EDQUOT, syscall.ENOMEM, syscall.EIO,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// A refusal is a change that cannot be made.
type refusal struct {
	reason string
	passes bool // with what the model is doing now
}

func (r *refusal) Error() string { return r.reason }

func refusef(format string, args ...any) error { return &refusal{reason: fmt.Sprintf(format, args...)} }

// change makes a change of the served models.
func (m *Models) change(ctx context.Context, change adminChange) error {
	if (change.Alias != "") != (change.Action == actionAlias) {
		return refusef("alias is for the action alias, which needs it; found action %s with alias %q", change.Action, change.Alias)
	}
	switch change.Action {
	case actionUnload:
		return m.discard(ctx, change.Model, false)
	case actionRemove:
		return m.discard(ctx, change.Model, true)
	}
	if change.Action == actionAlias {
		m.mu.Lock()
		err := m.checkAlias(change.Alias)
		m.mu.Unlock()
		if err != nil {
			return err // before it loads anything
		}
	}
	s, err := m.loadNow(ctx, change.Model)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case s.gone:
		return refusef("model %s was removed meanwhile", s.name)
	case change.Action == actionDefault:
		m.standard = s
	case change.Action == actionAlias:
		return m.setAlias(change.Alias, s)
	}
	return nil
}

// loadNow loads a model, also within the cooldown of a failed load. It adds a model that
// is not served yet, and forgets it if it cannot be loaded.
func (m *Models) loadNow(ctx context.Context, name string) (*slot, error) {
	m.mu.Lock()
	s, added := m.names[name], false
	if s == nil {
		if err := m.addMore(name); err != nil {
			m.mu.Unlock()
			return nil, err
		}
		s, added = m.names[name], true
	}
	s.failure = nil
	m.mu.Unlock()
	_, err := m.acquire(ctx, s)
	if err == nil {
		m.release(s)
		return s, nil
	}
	if added && errors.Is(err, errLoad) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.forget(s)
		m.drop(s)
	}
	return nil, err
}

// addMore adds a model while the server runs.
func (m *Models) addMore(name string) error {
	if len(m.slots) >= mostModels {
		return refusef("too many models: %d (limit %d); remove one", len(m.slots), mostModels)
	}
	if slices.ContainsFunc(m.slots, func(s *slot) bool { return s.name == name }) {
		return &refusal{fmt.Sprintf("model %s is still being removed", name), true}
	}
	return m.add(name)
}

// forget takes a model and its aliases out of the names.
func (m *Models) forget(s *slot) {
	s.gone = true
	for _, name := range append([]string{s.name}, s.aliases...) {
		delete(m.names, name)
	}
	s.aliases = nil
}

// discard unloads a model, and removes it if asked to. It waits until the memory is free.
// To remove an alias changes only the names.
func (m *Models) discard(ctx context.Context, name string, remove bool) error {
	m.mu.Lock()
	s := m.names[name]
	switch {
	case s == nil:
		defer m.mu.Unlock()
		return m.unknown()
	case remove && s.name != name:
		m.removeAlias(name)
		m.mu.Unlock()
		return nil
	case remove && s == m.standard:
		m.mu.Unlock()
		return refusef("model %s is the default model; make another one the default first", s.name)
	case s.load != nil:
		m.mu.Unlock()
		return &refusal{fmt.Sprintf("model %s is being loaded", s.name), true}
	}
	if remove {
		m.forget(s)
	}
	if s.model == nil {
		if remove {
			m.drop(s)
		}
		m.mu.Unlock()
		return nil
	}
	done := m.beginUnload(s, "admin")
	m.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
