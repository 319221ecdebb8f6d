package serve

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
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
	model, dir := clitest.TinyModel(t), t.TempDir()
	file := func(text string) string { return clitest.WriteFile(t, filepath.Join(dir, "key"), text) }
	for _, test := range []struct {
		name   string
		args   []string
		status int
		words  []string
	}{
		{"an argument", []string{"x"}, command.ExitUsage, []string{`"x"`, "serve --help"}},
		{"address taken", []string{"--listen", taken.Addr().String()}, command.ExitFailure, []string{"in use", "--listen"}},
		{"an empty address", []string{"--listen", ""}, command.ExitFailure, []string{"the address is empty", "--listen"}},
		{"no address", []string{"--listen", "here"}, command.ExitFailure, []string{"here", "--listen"}},
		{"no documents", []string{"--max-documents", "0"}, command.ExitUsage, []string{"--max-documents 0"}},
		{"no body", []string{"--max-body", "-1"}, command.ExitUsage, []string{"--max-body -1"}},
		{"no queue", []string{"--queue-tokens", "-1"}, command.ExitUsage, []string{"--queue-tokens -1"}},
		{"a batch that waits too long", []string{"--max-batch-wait", "1m"}, command.ExitUsage, []string{"--max-batch-wait is 1m0s; expected 0 to 10s"}},
		{"a batch that waits backwards", []string{"--max-batch-wait", "-1ms"}, command.ExitUsage, []string{"--max-batch-wait is -1ms; expected 0 to 10s"}},
		{"no memory for scores", []string{"--cache-mb", "-1"}, command.ExitUsage, []string{"--cache-mb is -1"}},
		{"a cache that is a file", []string{"--listen", "127.0.0.1:0", "--cache", file("text")}, command.ExitFailure, []string{"cache", "key"}},
		{"no time", []string{"--request-timeout", "0s"}, command.ExitUsage, []string{"--request-timeout 0s"}},
		{"a delay backwards", []string{"--drain-delay", "-1s"}, command.ExitUsage, []string{"--drain-delay -1s is negative"}},
		{"no key's file", []string{"--api-key-file", filepath.Join(dir, "none")}, command.ExitFailure, []string{"none", "no such file"}},
		{"an empty key", []string{"--api-key-file", file(" \n")}, command.ExitFailure, []string{"has no valid key"}},
		{"no file of keys", []string{"--keys", filepath.Join(dir, "none")}, command.ExitFailure, []string{"keys: open", "no such file"}},
		{"a file without keys", []string{"--keys", clitest.WriteFile(t, filepath.Join(dir, "keys"), "# none\n")}, command.ExitFailure, []string{"has no keys; add one with mlxrank key new"}},
		{"a certificate without its key", []string{"--tls-cert", "chain.pem"}, command.ExitUsage, []string{"--tls-cert and --tls-key belong together"}},
		{"no certificate", []string{"--tls-cert", filepath.Join(dir, "none"), "--tls-key", filepath.Join(dir, "none")}, command.ExitFailure, []string{"none", "no such file"}},
		{"a bad origin", []string{"--listen", "127.0.0.1:0", "--cors-origin", "example.org"}, command.ExitFailure, []string{`"example.org"`, "https://example.org"}},
		{"no calibration", []string{"--listen", "127.0.0.1:0", "--calibration", filepath.Join(dir, "none")}, command.ExitFailure, []string{"mlxrank: calibration: open", "no such file"}},
		{"another model's calibration", []string{"--listen", "127.0.0.1:0", "--calibration", clitest.WriteFile(t, filepath.Join(dir, "c.json"), `{"temperature": 2, "shift": 0, "model": "org/other"}`)}, command.ExitFailure, []string{`"org/other"`, model}},
		{"a missing model", []string{"--listen", "127.0.0.1:0", "--model", filepath.Join(dir, "none")}, command.ExitFailure, []string{"none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"serve", "--log-level", "warn"}, test.args...)
			if !slices.Contains(args, "--model") {
				args = append(args, "--model", model)
			}
			clitest.CheckFailure(t, mlxrank.Run(t, "", args...), test.status, test.words...)
		})
	}
	file("two words")
	t.Setenv(command.KeyEnv, "two words")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--model", model), command.ExitFailure, command.KeyEnv, "has no valid key")
}

// TestServeSettings checks that the environment and the config file can set flags of
// serve, and that other commands ignore these settings.
func TestServeSettings(t *testing.T) {
	config := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.yaml"), "listen: nowhere:at:all\nmax-documents: 7\ncors-origin: https://example.org\n")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--config", config, "--model", clitest.TinyModel(t)), command.ExitFailure, "nowhere:at:all")
	t.Setenv("MLXRANK_MAX_DOCUMENTS", "0")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--model", clitest.TinyModel(t)), command.ExitUsage, "MLXRANK_MAX_DOCUMENTS 0")
	mlxrank.MustRun(t, "", "rerank", "--config", config, "--model", clitest.TinyModel(t), "--query", "q", "d")
}

// cancelling keeps a log, and cancels as soon as the log has "listening".
type cancelling struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (c *cancelling) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "listening") {
		c.cancel()
	}
	return c.Buffer.Write(p)
}

// TestServeEnds checks that a signal ends the server with status 0, and that a server
// without a key warns if other machines can reach it.
func TestServeEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	for address, warns := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out bytes.Buffer
		log := cancelling{cancel: cancel}
		status := mlxrank(ctx, []string{"mlxrank", "serve", "--model", clitest.TinyModel(t), "--listen", address}, strings.NewReader(""), &out, &log)
		errOut := log.String()
		if status != command.ExitOK || out.Len() != 0 || !strings.Contains(errOut, "listening") || !strings.Contains(errOut, "stopped") {
			t.Errorf("status %d, %q, %s", status, out.String(), errOut)
		}
		if strings.Contains(errOut, "everyone") != warns {
			t.Errorf("%s: %s", address, errOut)
		}
		host := map[bool]string{false: "127.0.0.1", true: "localhost"}[warns] // no browser gets to 0.0.0.0 everywhere
		for _, page := range []string{"dashboard", "docs"} {
			if !regexp.MustCompile(page + `=?\S*http://` + host + `:[0-9]+/` + page).MatchString(errOut) {
				t.Errorf("%s: no address of %s: %s", address, page, errOut)
			}
		}
	}
}
