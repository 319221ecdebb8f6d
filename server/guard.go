package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
)

// guard refuses what must not come in, before anything of it is read: calls
// under a strange name, as DNS rebinding makes them, calls that other sites'
// pages make, and calls without the key.
func (s *Server) guard(next http.Handler) (http.Handler, error) {
	allowed, err := newCORS(s.CORSOrigins)
	if err != nil {
		return nil, err
	}
	protection := http.NewCrossOriginProtection()
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case protection.Check(r) != nil && (allowed == nil || !allowed.OriginAllowed(r)):
			fail(w, r, failf(http.StatusForbidden, kindForbidden, "calls from pages of this origin are not allowed; --cors-origin allows them"))
		case s.needsKey(r) && !s.hasKey(r):
			fail(w, r, failf(http.StatusUnauthorized, kindUnauthorized, "the key is missing or wrong: send it as Authorization: Bearer KEY"))
		default:
			next.ServeHTTP(w, r)
		}
	})
	if allowed != nil {
		handler = allowed.Handler(handler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isDashboard(r.URL.Path) { // it sets deadlines itself, since its streams have no end
			setDeadline(http.NewResponseController(w).SetWriteDeadline, time.Time{})
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !s.allowsHost(r) {
			fail(w, r, failHost(r.Host))
			return
		}
		handler.ServeHTTP(w, r)
	}), nil
}

// newCORS returns nil if no other site's page may call. Its matcher of origins
// decides for preflights and for calls alike.
func newCORS(origins []string) (*cors.Cors, error) {
	if len(origins) == 0 {
		return nil, nil
	}
	var patterns []*regexp.Regexp
	for _, origin := range origins {
		pattern, ok := newOriginPattern(origin)
		if !ok {
			return nil, fmt.Errorf("server: origin %q that may call from a browser: expected one like https://example.org, https://*.example.org or http://localhost:*", origin)
		}
		patterns = append(patterns, pattern)
	}
	allows := func(origin string) bool {
		return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(origin) })
	}
	if slices.Contains(origins, "*") {
		allows = nil // AllowedOrigins has it
	}
	return cors.New(cors.Options{
		AllowedOrigins:      origins,
		AllowOriginFunc:     allows, // cors's own patterns match any characters, "/" and "#" too
		AllowedMethods:      []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders:      []string{"*"}, // SDKs send headers of their own
		ExposedHeaders:      exposedHeaders(),
		AllowPrivateNetwork: true, // a public page asks before it calls this machine
	}), nil
}

// newOriginPattern returns what matches the origins that a pattern allows. Its
// "*", one at most, stands for labels of the host or for the digits of the port.
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

// isOpen says what is had without the key: what a prober asks and what the
// pages are made of. Their data is not.
func isOpen(method, path string) bool {
	switch path {
	case "/docs", "/openapi.json":
		return true
	}
	return isProbe(method, path) || strings.HasPrefix(path, "/docs/") || isDashboard(path) && !strings.HasPrefix(path, "/dashboard/api/")
}

func isDashboard(path string) bool {
	return path == "/dashboard" || strings.HasPrefix(path, "/dashboard/")
}

func (s *Server) needsKey(r *http.Request) bool { return s.Key != "" && !isOpen(r.Method, r.URL.Path) }

// hasKey takes the same time for every key of whatever length.
func (s *Server) hasKey(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(s.Key))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// isJSON reports whether the content type is JSON in UTF-8. It is false for
// everything that a page can send to another site without a preflight.
func isJSON(r *http.Request) bool {
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := strings.ToLower(orElse(parameters["charset"], "utf-8"))
	return err == nil && media == "application/json" && (charset == "utf-8" || charset == "utf8" || charset == "us-ascii")
}
