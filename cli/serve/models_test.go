package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

func TestModelFlagErrors(t *testing.T) {
	model, key := clitest.TinyModel(t), clitest.WriteFile(t, filepath.Join(t.TempDir(), "key"), "secret")
	for _, test := range []struct {
		name   string
		args   []string
		status int
		words  []string
	}{
		{"a model twice", []string{"--model", model, "--model", model}, command.ExitUsage, []string{"--model " + model + " is given twice"}},
		{"an empty model", []string{"--model", ""}, command.ExitUsage, []string{"--model is empty"}},
		{"no alias", []string{"--alias", "x"}, command.ExitUsage, []string{`--alias "x" is not valid; expected NAME=MODEL`}},
		{"an alias twice", []string{"--alias", "x=" + model, "--alias", "x=other"}, command.ExitUsage, []string{"--alias x is given twice"}},
		{"an alias of nothing", []string{"--alias", "x=other"}, command.ExitFailure, []string{`alias x names "other", which is not served`, model}},
		{"an alias of itself", []string{"--alias", "x=y", "--alias", "y=x"}, command.ExitFailure, []string{"leads back to itself"}},
		{"an alias with a space", []string{"--alias", "a b=" + model}, command.ExitFailure, []string{`alias "a b" has a space or a control character`}},
		{"an alias with a new line", []string{"--alias", "a\n=" + model}, command.ExitFailure, []string{`alias "a\n" has a space or a control character`}},
		{"an alias that is a model", []string{"--alias", "builtin=" + model}, command.ExitFailure, []string{"alias builtin is the name of a model"}},
		{"an unknown time to load", []string{"--load", "soon"}, command.ExitUsage, []string{`--load "soon"`, "start, lazy"}},
		{"no time", []string{"--unload-after", "0s"}, command.ExitUsage, []string{"--unload-after 0s is too short"}},
		{"no memory", []string{"--max-model-memory", "0"}, command.ExitUsage, []string{"--max-model-memory 0 is too small"}},
		{"too little memory", []string{"--max-model-memory", "0.001"}, command.ExitFailure, []string{"more than the limit of 0.0 MB", "raise the limit"}},
		{"admin without a key", []string{"--admin"}, command.ExitUsage, []string{"--admin needs a key", "--api-key-file"}},
		{"a label without its model", []string{"--model", model, "--model", "builtin", "--label", "yes"}, command.ExitUsage, []string{"--label yes is for one of 2 models", "--label " + model + "=yes"}},
		{"a label twice", []string{"--label", "0", "--label", model + "=0"}, command.ExitUsage, []string{"--label is given twice for model " + model}},
		{"an unknown label", []string{"--model", model, "--model", "builtin", "--label", model + "=yes"}, command.ExitFailure, []string{`has no label "yes"`}},
		{"two number formats", []string{"--dtype", "float32,float16"}, command.ExitUsage, []string{"--dtype"}},
		{"a broken second model", []string{"--model", model, "--model", filepath.Join(t.TempDir(), "none")}, command.ExitFailure, []string{"none", "no such directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"serve", "--log-level", "warn", "--listen", "127.0.0.1:0"}, test.args...)
			if !slices.Contains(args, "--model") {
				args = append(args, "--model", model)
			}
			clitest.CheckFailure(t, mlxrank.Run(t, "", args...), test.status, test.words...)
		})
	}
	// Both flags of the environment are read.
	t.Setenv("MLXRANK_ADMIN", "true")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--model", model), command.ExitUsage, "MLXRANK_ADMIN needs a key")
	t.Setenv("MLXRANK_MODEL", model+","+model)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "serve", "--api-key-file", key), command.ExitUsage, "MLXRANK_MODEL "+model+" is given twice")
}

// A writer passes on the first address in what is written.
type addressWriter struct {
	bytes.Buffer
	address chan string
}

var listens = regexp.MustCompile(`address=?\S*?(http://[0-9.:]+)`)

func (w *addressWriter) Write(data []byte) (int, error) {
	if found := listens.FindSubmatch(data); found != nil {
		select {
		case w.address <- string(found[1]):
		default:
		}
	}
	return w.Buffer.Write(data)
}

// TestServeModels serves two models lazily, one of them by an alias, and switches the
// alias.
func TestServeModels(t *testing.T) {
	first, second := clitest.TinyModel(t), t.TempDir()
	weightstest.Write(t, second, weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 99})
	key := clitest.WriteFile(t, filepath.Join(t.TempDir(), "key"), "secret")
	out := &addressWriter{address: make(chan string, 1)}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ended := make(chan int, 1)
	go func() {
		ended <- runProgram(ctx, []string{"mlxrank", "serve", "--listen", "127.0.0.1:0", "--model", first, "--model", second, "--alias", "live=" + first, "--load", "lazy",
			"--label", second + "=0", "--unload-after", "1h", "--api-key-file", key, "--admin", "--device", "cpu"}, command.Streams{In: strings.NewReader(""), Out: io.Discard, Err: out})
	}()
	base := <-out.address
	ask := func(path, body string) string {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer secret")
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(w.Body)
		if cerr := w.Body.Close(); err != nil || cerr != nil || w.StatusCode != 200 {
			t.Fatalf("%s: %d %s, errors %v, %v", path, w.StatusCode, answer, err, cerr)
		}
		return string(answer)
	}
	score := func(model string) (string, float64) {
		var answer struct {
			Model   string
			Results []struct {
				Score float64 `json:"relevance_score"`
			}
		}
		body := ask("/v1/rerank", `{"model": "`+model+`", "query": "the city", "documents": ["water"]}`)
		if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Results) != 1 {
			t.Fatalf("%s: %v", body, err)
		}
		return answer.Model, answer.Results[0].Score
	}
	by, before := score("live")
	if by != first {
		t.Errorf("the alias is answered by %s, want %s", by, first)
	}
	_, other := score(second)
	if before == other {
		t.Fatal("both models have the same score")
	}
	ask("/admin/models", `{"action": "alias", "alias": "live", "model": "`+second+`"}`)
	if by, after := score("live"); by != second || after != other {
		t.Errorf("after the switch %s answers %v, want %v", by, after, other)
	}
	if _, again := score(""); again != before {
		t.Errorf("the default model answers %v, want %v", again, before)
	}
	stop()
	if status := <-ended; status != command.ExitOK {
		t.Errorf("status %d", status)
	}
	for _, words := range []string{"loaded", "model=" + second, "admin", "stopped"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("the log lacks %q: %s", words, out.String())
		}
	}
}
