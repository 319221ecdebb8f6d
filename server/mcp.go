package server

import (
	"bytes"
	"io"
	"net/http"
)

// mcpRoutes is the table of routes of a server with Config.MCP.
func (s *Server) mcpRoutes() map[string]*route {
	list := []*route{
		{path: "/mcp", post: &operation{handle: s.forward(s.MCP)}},
		{path: "/health", access: accessProbe, get: state("health", "Whether the engine scores", nil, s.getHealth)},
		{path: "/ready", access: accessProbe, get: state("ready", "Whether requests are accepted", readiness{}, s.getReady)},
		{path: "/metrics", get: page("metrics", "Metrics for Prometheus", "text/plain", s.metricsHandler())},
	}
	routes := make(map[string]*route, len(list))
	for _, r := range list {
		routes[r.path] = r
	}
	return routes
}

// forward reads a body within the limits and passes the request to next. A server that
// stops waits for the answer.
func (s *Server) forward(next http.Handler) handler {
	return func(a *answer, r *http.Request) outcome {
		if f := s.arrive(); f != nil {
			a.Header().Set("Connection", "close")
			return outcome{failure: f}
		}
		defer s.depart()
		if !isJSON(r) {
			return outcome{failure: failf(http.StatusUnsupportedMediaType, kindValidation, "the content type must be application/json")}
		}
		body, f := s.readJSON(a, r)
		size := int64(len(body))
		defer s.bodies.give(size)
		s.received.Add(size)
		if f == nil {
			f = s.Limits.checkBody(body)
		}
		if f != nil {
			endConnection(a, r)
			return outcome{failure: f, bytesIn: len(body)}
		}
		read := *r // the caller's request stays as it is
		read.Header = r.Header.Clone()
		read.Header.Del("Content-Encoding")
		read.Body, read.ContentLength = io.NopCloser(bytes.NewReader(body)), size
		next.ServeHTTP(a, &read)
		return outcome{bytesIn: len(body)}
	}
}
