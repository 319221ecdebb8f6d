package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"
)

// guard refuses what must not come in, before anything of it is read: calls
// under a strange name, as DNS rebinding makes them, calls that other sites'
// pages make, and calls without the key.
func (s *Server) guard(next http.Handler) (http.Handler, error) {
	origins := http.NewCrossOriginProtection()
	s.corsAll = slices.Contains(s.CORSOrigins, "*")
	for _, origin := range s.CORSOrigins {
		if origin == "*" {
			continue
		}
		if err := origins.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("server: origin %q that may call from a browser: %w; it is like https://example.org", origin, err)
		}
	}
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !s.corsAll && origins.Check(r) != nil:
			fail(w, r, failf(http.StatusForbidden, kindForbidden, "calls from pages of this origin are not allowed; --cors-origin allows them"))
		case s.needsKey(r) && !s.hasKey(r):
			fail(w, r, failf(http.StatusUnauthorized, kindUnauthorized, "the key is missing or wrong: send it as Authorization: Bearer KEY"))
		default:
			next.ServeHTTP(w, r)
		}
	})
	var handler http.Handler = inner
	if len(s.CORSOrigins) > 0 {
		handler = cors.New(cors.Options{
			AllowedOrigins: s.CORSOrigins,
			AllowedMethods: []string{http.MethodGet, http.MethodPost},
			AllowedHeaders: []string{"Authorization", "Content-Type"},
			ExposedHeaders: exposedHeaders(),
		}).Handler(inner)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isDashboard(r.URL.Path) { // it sets deadlines itself, since its streams have no end
			setDeadline(http.NewResponseController(w).SetWriteDeadline, time.Time{})
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !s.knowsHost(r.Host) {
			fail(w, r, failf(http.StatusForbidden, kindForbidden, "the server is not known under this name; --allowed-host makes it known"))
			return
		}
		handler.ServeHTTP(w, r)
	}), nil
}

// knowsHost allows addresses, since no other site's name leads to one, names of
// this machine's loopback, and those that were allowed.
func (s *Server) knowsHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	return slices.ContainsFunc(s.AllowedHosts, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, host)
	})
}

// isOpen says what is had without the key: what a prober asks and what the
// pages are made of. Their data is not.
func isOpen(path string) bool {
	switch path {
	case "/health", "/ready", "/docs", "/openapi.json":
		return true
	}
	return strings.HasPrefix(path, "/docs/") || isDashboard(path) && !strings.HasPrefix(path, "/dashboard/api/")
}

func isDashboard(path string) bool {
	return path == "/dashboard" || strings.HasPrefix(path, "/dashboard/")
}

func (s *Server) needsKey(r *http.Request) bool { return s.Key != "" && !isOpen(r.URL.Path) }

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
