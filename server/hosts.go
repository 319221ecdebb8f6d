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

// A page of another site can reach this server under a name of its own that it
// lets lead here (DNS rebinding), and is then of the same origin for the browser.
// The Host tells: it is the page's name. So only names that no site of the
// internet can have are known without being allowed: addresses, localhost, this
// machine's own name, and the names by which containers call their host.

// allowsHost reports whether a call may come under its Host. With a key any
// name will do, since the page has no key; so will none, since browsers always
// send one; and probers may ask whether the server is up under any name.
func (s *Server) allowsHost(r *http.Request) bool {
	return s.Key != "" || r.Host == "" || isProbe(r.Method, r.URL.Path) || s.knowsHost(hostname(r.Host))
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

// isOwnName reports whether the operating system calls this machine so: in
// full, by the first label, or by that in multicast DNS. The name is asked for
// each time, since that of a laptop changes with its network.
func isOwnName(host string) bool {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return false
	}
	name = hostname(name)
	short, _, _ := strings.Cut(name, ".")
	return host == name || host == short || host == short+".local"
}

// hostname is a Host without port, brackets and final dot, in lower case.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// checkHosts brings the allowed hosts into the form of hostname.
func checkHosts(allowed []string) ([]string, error) {
	var names []string
	for _, host := range allowed {
		name := hostname(strings.TrimSpace(host))
		if _, err := netip.ParseAddr(name); strings.Contains(host, "/") || name != "*" && !isPlainName(name) && err != nil {
			return nil, fmt.Errorf("server: allowed host %q: expected a name such as rerank.example.org, or * for all", host)
		}
		names = append(names, name)
	}
	return names, nil
}

func isPlainName(name string) bool {
	return name != "" && len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// failHost names the host, and the flag in a form to be pasted.
func failHost(host string) *failure {
	name, shown := hostname(host), "HOST"
	if isPlainName(name) {
		shown = name
	} else if len(name) > 253 {
		name = name[:253] + "..."
	}
	return failf(http.StatusForbidden, kindForbidden, "host %q is not allowed; add --allowed-host %s", name, shown)
}

// isProbe reports whether a call only asks if the server is up, as probers do.
func isProbe(method, path string) bool {
	switch path {
	case "/", "/health", "/ready", "/ping":
		return method == http.MethodGet || method == http.MethodHead
	}
	return false
}
