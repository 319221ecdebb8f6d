package cli

import (
	"context"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestServeErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	})
	model, dir := tinyModel(t), t.TempDir()
	file := func(text string) string { return writeFile(t, filepath.Join(dir, "key"), text) }
	for _, test := range []struct {
		name   string
		args   []string
		status int
		words  []string
	}{
		{"an argument", []string{"x"}, exitUsage, []string{`"x"`, "serve --help"}},
		{"address taken", []string{"--listen", taken.Addr().String()}, exitFailure, []string{"in use", "--listen"}},
		{"no address", []string{"--listen", "here"}, exitFailure, []string{"here", "--listen"}},
		{"no documents", []string{"--max-documents", "0"}, exitUsage, []string{"--max-documents 0"}},
		{"no body", []string{"--max-body", "-1"}, exitUsage, []string{"--max-body -1"}},
		{"no queue", []string{"--queue-tokens", "-1"}, exitUsage, []string{"--queue-tokens -1"}},
		{"no time", []string{"--request-timeout", "0s"}, exitUsage, []string{"--request-timeout 0s"}},
		{"no key's file", []string{"--api-key-file", filepath.Join(dir, "none")}, exitFailure, []string{"none", "no such file"}},
		{"an empty key", []string{"--api-key-file", file(" \n")}, exitFailure, []string{"holds no key"}},
		{"a bad origin", []string{"--listen", "127.0.0.1:0", "--cors-origin", "example.org"}, exitFailure, []string{`"example.org"`, "https://example.org"}},
		{"a missing model", []string{"--listen", "127.0.0.1:0", "--model", filepath.Join(dir, "none")}, exitFailure, []string{"none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"serve", "--log-level", "warn"}, test.args...)
			if !slices.Contains(args, "--model") {
				args = append(args, "--model", model)
			}
			checkFailure(t, mlxrank.run(t, "", args...), test.status, test.words...)
		})
	}
	file("two words")
	t.Setenv(keyEnv, "two words")
	checkFailure(t, mlxrank.run(t, "", "serve", "--model", model), exitFailure, keyEnv, "holds no key")
}

// Settings of the server come from environment and config file too, and other
// commands pass over them.
func TestServeSettings(t *testing.T) {
	config := writeFile(t, filepath.Join(t.TempDir(), "c.yaml"), "listen: nowhere:at:all\nmax-documents: 7\ncors-origin: https://example.org\n")
	checkFailure(t, mlxrank.run(t, "", "serve", "--config", config, "--model", tinyModel(t)), exitFailure, "nowhere:at:all")
	t.Setenv("MLXRANK_MAX_DOCUMENTS", "0")
	checkFailure(t, mlxrank.run(t, "", "serve", "--model", tinyModel(t)), exitUsage, "max-documents 0")
	mlxrank.mustRun(t, "", "rerank", "--config", config, "--model", tinyModel(t), "--query", "q", "d")
}

// A server ends with status 0 when it is told to, and warns who may call.
func TestServeEnds(t *testing.T) {
	for address, warns := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r := mlxrank.runContext(ctx, t, strings.NewReader(""), "serve", "--model", tinyModel(t), "--listen", address)
		if r.status != exitOK || r.out != "" || !strings.Contains(r.errOut, "listening") || !strings.Contains(r.errOut, "stopped") {
			t.Errorf("status %d, %q, %s", r.status, r.out, r.errOut)
		}
		if strings.Contains(r.errOut, "anybody") != warns {
			t.Errorf("%s: %s", address, r.errOut)
		}
		host := map[bool]string{false: "127.0.0.1", true: "localhost"}[warns] // no browser gets to 0.0.0.0 everywhere
		for _, page := range []string{"dashboard", "docs"} {
			if !regexp.MustCompile(page + `=?\S*http://` + host + `:[0-9]+/` + page).MatchString(r.errOut) {
				t.Errorf("%s: no address of %s: %s", address, page, r.errOut)
			}
		}
	}
}
