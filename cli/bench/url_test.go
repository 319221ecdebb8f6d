package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/bench/results"
	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// cohereServer starts a server that accepts one model and one key.
func cohereServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Model     string
			Documents []string
		}
		err := json.NewDecoder(r.Body).Decode(&body)
		if err != nil || r.URL.Path != "/v2/rerank" || body.Model != "rerank-x" || r.Header.Get("Authorization") != "Bearer of-a-file" {
			http.Error(w, "not for you", http.StatusUnauthorized)
			return
		}
		var list []string
		for i := range body.Documents {
			list = append(list, fmt.Sprintf(`{"index":%d,"relevance_score":0.25}`, i))
		}
		fmt.Fprintf(w, `{"results":[%s]}`, strings.Join(list, ",")) //nolint:errcheck // the client reports it
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestBenchURL(t *testing.T) {
	address, dir := cohereServer(t), t.TempDir()
	key := clitest.WriteFile(t, filepath.Join(dir, "key"), "of-a-file\n")
	experiment := clitest.WriteFile(t, filepath.Join(dir, "peer.yaml"), "batch: [2, 3]\nrequests: 4\npolicy: window\ntimeout: 200ms\nmodel: rerank-x\n")
	t.Setenv(command.KeyEnv, "of-the-environment")
	args := []string{"bench", "--url", address, "--api", "cohere", "--results", dir, experiment}
	r := mlxrank.MustRun(t, "", append(args, "--api-key-file", key)...)
	if !strings.Contains(r.Out, "| 2 | 1 | 8 |") || !strings.Contains(r.Out, "| 3 | 1 | 12 |") {
		t.Errorf("standard output: %q", r.Out)
	}
	stored, err := results.Read(filepath.Join(dir, "peer_results.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s := stored.Environment.Server; s == nil || s.URL != address || s.API != "cohere" || s.Model != "rerank-x" || s.Info != nil || stored.Points[0].Settings.BatchTimeoutMS != 0 {
		t.Errorf("%+v of %+v", stored.Points[0].Settings, s)
	}
	report, err := os.ReadFile(filepath.Join(dir, "peer_results.md"))
	if err != nil || !strings.Contains(string(report), "| Server: total | - | - | - | - |") || strings.Contains(string(report), "of-a-file") {
		t.Errorf("%v, %s", err, report)
	}
	// Without the file, the key comes from the environment, which has a wrong one.
	if r := mlxrank.Run(t, "", args...); r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, "401") {
		t.Errorf("status %d, %s", r.Status, r.ErrOut)
	}
}

func TestBenchURLRefuses(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		args   []string
		status int
		words  []string
	}{
		{[]string{"--api", "jina"}, command.ExitUsage, []string{"--api needs --url"}},
		{[]string{"--url", "http://a", "--api", "ollama"}, command.ExitUsage, []string{"ollama", "tei, jina, cohere"}},
		{[]string{"--url", ""}, command.ExitUsage, []string{"--url", "http://127.0.0.1:8437"}},
		{[]string{"--url", "localhost:8080"}, command.ExitUsage, []string{"localhost:8080", "expected"}},
		{[]string{"--url", "http://127.0.0.1:1", "--api-key-file", none}, command.ExitFailure, []string{none}},
		{[]string{"--url", "http://127.0.0.1:1", "--max-batch", "8", "--device", "cpu", "--mode", "tokenization-only"}, command.ExitUsage, []string{"mode", "full"}},
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"bench", "--results", t.TempDir()}, test.args...)...), test.status, test.words...)
	}
}
