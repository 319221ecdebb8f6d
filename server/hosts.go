package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// A page of another site can reach this server under a name of that site which
// resolves to this machine (DNS rebinding). The browser then treats both as one
// origin, and the Host is the page's name. So only names that no site of the
// internet can have are allowed by default: addresses, localhost, this machine's
// own name, and the names by which containers call their host.

// allowsHost reports whether a request may use its Host. Any name is allowed with
// a key, which the page does not have. A missing name is allowed, because browsers
// always send one. Health checks may use any name.
func (s *Server) allowsHost(r *http.Request, rt *route) bool {
	return s.isKeyed() || r.Host == "" || rt.isProbe(r) || s.knowsHost(hostname(r.Host))
}

func (s *Server) knowsHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	switch host {
	case "localhost", "host.docker.internal", "host.containers.internal":
		return true
	}
	return strings.HasSuffix(host, ".localhost") || slices.Contains(s.AllowedHosts, "*") ||
		slices.Contains(s.AllowedHosts, host) || isOwnName(host)
}

// isOwnName reports whether host is the operating system's name of this machine:
// in full, its first label, or that label in multicast DNS. The name is read each
// time, because a laptop's name changes with its network.
func isOwnName(host string) bool {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return false
	}
	name = hostname(name)
	short, _, _ := strings.Cut(name, ".")
	return host == name || host == short || host == short+".local"
}

// hostname returns a Host without port, brackets and final dot, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// parseHosts returns the allowed hosts in the form of hostname.
func parseHosts(allowed []string) ([]string, error) {
	var names []string
	for _, host := range allowed {
		name := hostname(strings.TrimSpace(host))
		if _, err := netip.ParseAddr(name); strings.Contains(host, "/") || name != "*" && !isPlainName(name) && err != nil {
			return nil, fmt.Errorf("server: allowed host %q is not valid; expected a name such as rerank.example.org, or * for all", host)
		}
		names = append(names, name)
	}
	return names, nil
}

func isPlainName(name string) bool {
	return name != "" && len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// failHost names the host, and the flag in a form that can be pasted.
func failHost(host string) *failure {
	name, shown := hostname(host), "HOST"
	if isPlainName(name) {
		shown = name
	} else if len(name) > 253 {
		name = name[:253] + "..."
	}
	return failf(http.StatusForbidden, kindForbidden, "host %q is not allowed; add --allowed-host %s", name, shown)
}
