package server

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/rs/cors"

	"github.com/mlxrank/mlxrank/engine"
)

// guard rejects a request before any of it is read: under a host name that DNS
// rebinding may have made, from a page of another site, or without the key. It
// answers preflights itself.
func (s *Server) guard(a *answer, r *http.Request, rt *route) *failure {
	a.Header().Set("X-Content-Type-Options", "nosniff")
	if !s.allowsHost(r, rt) {
		return failHost(r.Host)
	}
	if rt.access == accessAdmin && s.isForeign(r) {
		return failf(http.StatusForbidden, kindForbidden, "pages of other sites cannot use the admin route, whatever --cors-origin allows; send the request from a program")
	}
	if s.cors != nil {
		if s.cors.HandlerFunc(a, r); a.status != 0 {
			return nil // a preflight, answered
		}
	}
	switch {
	case s.protection.Check(r) != nil && s.MCP != nil: // no origin can be allowed
		return failf(http.StatusForbidden, kindForbidden, "pages of other sites are not allowed to call; send the request from a program")
	case s.protection.Check(r) != nil && (s.cors == nil || !s.cors.OriginAllowed(r)):
		return failf(http.StatusForbidden, kindForbidden, "pages of this origin are not allowed to call; add --cors-origin for it")
	case s.needsKey(r, rt):
		return s.checkKey(a, r, rt)
	}
	return nil
}

// checkKey rejects a request without a key, or with one that does not open the route.
func (s *Server) checkKey(a *answer, r *http.Request, rt *route) *failure {
	c, ok := s.identify(r)
	if !ok {
		return failf(http.StatusUnauthorized, kindUnauthorized, "the key is missing or wrong; send Authorization: Bearer KEY")
	}
	a.client = c
	if rt.access == accessAdmin && c != nil && !c.Admin {
		return failf(http.StatusForbidden, kindForbidden, "key %s does not open the admin route; send a key with admin: true in the server's file of keys", c.Name)
	}
	return nil
}

// isForeign reports whether a page of another site sends the request. The protection
// checks only methods that change something, so that it is asked about POST.
func (s *Server) isForeign(r *http.Request) bool {
	asked := *r
	asked.Method = http.MethodPost
	return s.protection.Check(&asked) != nil
}

// newCORS returns nil if no other site's page may call. Preflights and requests
// match origins by the same patterns.
func newCORS(origins []string) (*cors.Cors, error) {
	if len(origins) == 0 {
		return nil, nil
	}
	var patterns []*regexp.Regexp
	for _, origin := range origins {
		pattern, ok := newOriginPattern(origin)
		if !ok {
			return nil, fmt.Errorf("server: CORS origin %q is not valid; expected one like https://example.org, https://*.example.org or http://localhost:*", origin)
		}
		patterns = append(patterns, pattern)
	}
	allows := func(origin string) bool {
		return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(origin) })
	}
	if slices.Contains(origins, "*") {
		allows = nil // AllowedOrigins decides
	}
	return cors.New(cors.Options{
		AllowedOrigins:      origins,
		AllowOriginFunc:     allows, // the cors package's patterns would match "/" and "#" too
		AllowedMethods:      []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders:      []string{"*"}, // SDKs send headers of their own
		ExposedHeaders:      exposedHeaders(),
		AllowPrivateNetwork: true, // a public page asks before it calls this machine
	}), nil
}

// exposedHeaders lists the headers that scripts of allowed origins may read.
func exposedHeaders() []string {
	names := []string{"Retry-After", headerRequestID, headerUnscored, cacheHeader}
	for _, h := range stageHeaders("", &outcome{result: &engine.Result{}}) {
		names = append(names, h.name)
	}
	return names
}

// newOriginPattern compiles a pattern of origins. Its "*", at most one, matches
// labels of the host or the digits of the port.
func newOriginPattern(origin string) (_ *regexp.Regexp, ok bool) {
	if origin == "*" {
		return regexp.MustCompile(``), true
	}
	before, after, wild := strings.Cut(origin, "*")
	sample := before + after
	if wild {
		sample = before + "1" + after
	}
	if http.NewCrossOriginProtection().AddTrustedOrigin(sample) != nil || strings.Contains(sample, "*") {
		return nil, false
	}
	part := ""
	if wild {
		_, host, found := strings.Cut(before, "://")
		if !found {
			return nil, false // in the scheme
		}
		part = `[a-z0-9_-]+(\.[a-z0-9_-]+)*`
		if strings.Contains(host, ":") {
			part = `[0-9]+`
		}
	}
	return regexp.MustCompile(`(?i)^` + regexp.QuoteMeta(before) + part + regexp.QuoteMeta(after) + `$`), true
}

func (s *Server) needsKey(r *http.Request, rt *route) bool {
	return s.isKeyed() && rt.access != accessOpen && !rt.isProbe(r)
}

// isJSON reports whether the content type is JSON in UTF-8. A page cannot send
// that to another site without a preflight.
func isJSON(r *http.Request) bool {
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(cmp.Or(parameters["charset"], "utf-8"))
	return err == nil && media == "application/json" && (charset == "utf-8" || charset == "utf8" || charset == "us-ascii")
}
