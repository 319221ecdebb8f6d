package serve

import (
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// startPprof serves the pages of net/http/pprof at a loopback address until stop is
// called. With an empty address it does nothing. Errors name source as the origin
// of the address.
func startPprof(address, source string, log zerolog.Logger) (stop func() error, err error) {
	if address == "" {
		return func() error { return nil }, nil
	}
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, command.Usagef("%s %s: %v; expected a loopback address such as 127.0.0.1:6060", source, address, err)
	}
	if !at.IP.IsLoopback() {
		return nil, command.Usagef("%s %s is not a loopback address; expected one such as 127.0.0.1:6060; to reach it from another machine, forward its port", source, address)
	}
	listener, err := net.ListenTCP("tcp", at)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: pprofHandler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	log.Info().Str("pprof", "http://"+listener.Addr().String()+"/debug/pprof/").Msg("profiling")
	return func() error {
		err := srv.Close()
		if serr := <-served; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}, nil
}

// pprofHandler answers requests for loopback names only, so that a page of another
// site whose name resolves to this machine cannot read profiles.
func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); host != "localhost" && (err != nil || !ip.IsLoopback()) {
			http.Error(w, "profiles are available under loopback addresses and localhost only", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
