package serve

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestPprof checks that profiles are served at loopback addresses and under loopback
// names only.
func TestPprof(t *testing.T) {
	for _, address := range []string{":6060", "0.0.0.0:6060", "192.0.2.7:6060", "[::]:6060", "here", "127.0.0.1"} {
		if _, err := startPprof(address, "--pprof", zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "127.0.0.1:6060") {
			t.Errorf("%s: %v", address, err)
		}
	}
	var log bytes.Buffer
	stop, err := startPprof("localhost:0", "--pprof", zerolog.New(&log))
	if err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile(`http://[^"]+/debug/pprof/`).FindString(log.String())
	for path, want := range map[string]string{"goroutine?debug=1": "goroutine profile", "cmdline": "serve.test", "": "allocs"} {
		answer, err := http.Get(page + path)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		if _, err := body.ReadFrom(answer.Body); err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(body.String(), want) {
			t.Errorf("%s: %d %.200s, want %s", path, answer.StatusCode, body.String(), want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if answer, err := http.Get(page); err == nil {
		t.Error("it still listens", answer.Body.Close())
	}
	for host, want := range map[string]int{"localhost:6060": 200, "127.0.0.1": 200, "[::1]:6060": 200, "evil.example.org:6060": 403, "192.0.2.7": 403, "": 403} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/debug/pprof/cmdline", nil)
		r.Host = host
		if pprofHandler().ServeHTTP(w, r); w.Code != want {
			t.Errorf("host %q: %d, want %d", host, w.Code, want)
		}
	}
	if stop, err := startPprof("", "--pprof", zerolog.Nop()); err != nil || stop() != nil {
		t.Errorf("without an address: %v", err)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--model", clitest.TinyModel(t), "--listen", "127.0.0.1:0", "--pprof", ":6060"), command.ExitUsage, "--pprof :6060", "loopback")
	t.Setenv("MLXRANK_PPROF", ":6061")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--model", clitest.TinyModel(t), "--listen", "127.0.0.1:0"), command.ExitUsage, "MLXRANK_PPROF :6061", "loopback")
}
