package mcp

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

var documents = []string{"london", "water", "a city", "", "page 1 of 2", "river " + strings.Repeat("city water ", 100)}

// docsFolder writes a folder of files and returns it.
func docsFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a.md": "# City\n\n" + strings.Repeat("water and more. ", 100), "deep/b.html": "<title>T</title><p>page <b>one</b>", "c.txt": "london\n", "d.bin": "\x00\x01\x02\x03",
	} {
		clitest.WriteFile(t, filepath.Join(dir, name), text)
	}
	return dir
}

// streamed starts the command on pipes and connects a client.
func streamed(t *testing.T, args ...string) *sdk.ClientSession {
	t.Helper()
	r := start(t, args...)
	return connect(t, &sdk.IOTransport{Reader: io.NopCloser(r.out), Writer: r.in})
}

// served starts the command with HTTP and returns its address and a client.
func served(t *testing.T, args ...string) (string, *sdk.ClientSession) {
	t.Helper()
	address := start(t, append([]string{"--http", "127.0.0.1:0"}, args...)...).address(t)
	return address, connect(t, &sdk.StreamableClientTransport{Endpoint: address})
}

// TestRanksAsRerank compares both transports with the command rerank, for documents and
// for files.
func TestRanksAsRerank(t *testing.T) {
	model, dir := clitest.TinyModel(t), docsFolder(t)
	_, overHTTP := served(t, "--model", model, "--root", dir)
	for name, session := range map[string]*sdk.ClientSession{"streams": streamed(t, "--model", model, "--root", dir), "HTTP": overHTTP} {
		t.Run(name, func(t *testing.T) {
			want := rerankJSON(t, append([]string{"--model", model, "--query", "city", "--long", "passages", "--"}, documents...)...)
			got, failure := ask(t, session, object{"query": "city", "documents": documents})
			if failure != "" {
				t.Fatal(failure)
			}
			checkResults(t, got, want)
			if last := got.Results[slices.IndexFunc(got.Results, func(r result) bool { return *r.Index == 5 })]; last.Passage == "" || len(last.Passage) >= len(documents[5]) {
				t.Errorf("no passage of a long document: %+v", last)
			}
			if cut, _ := ask(t, session, object{"query": "city", "documents": documents, "top_n": 2.0, "deadline_ms": nil}); len(cut.Results) != 2 || *cut.Results[1].Index != want[1].Index {
				t.Errorf("top_n 2: %+v", cut)
			}
			want = rerankJSON(t, "--model", model, "--query", "city", "--files", dir)
			for _, path := range []string{dir, "./", "**"} {
				if got, failure = ask(t, session, object{"query": "city", "paths": []string{path}}); failure != "" {
					t.Fatal(failure)
				}
				checkResults(t, got, want)
				if got.LeftOut == nil || got.LeftOut.Files != 1 || !strings.Contains(got.LeftOut.First[0], "d.bin: not UTF-8 text") {
					t.Errorf("left out %+v", got.LeftOut)
				}
			}
		})
	}
}

// A ranked document, as rerank --json prints it.
type ranked struct {
	Index    int
	Path     string
	Score    float32
	Document string
	Passage  *struct{ Text string }
}

func rerankJSON(t *testing.T, args ...string) []ranked {
	t.Helper()
	var printed struct{ Results []ranked }
	r := mlxrank.MustRun(t, "", append([]string{"rerank", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.Out), &printed); err != nil {
		t.Fatal(err)
	}
	return printed.Results
}

// checkResults compares an answer with the output of rerank.
func checkResults(t *testing.T, got *answer, want []ranked) {
	t.Helper()
	if got.Ranked != len(want) || len(got.Results) != len(want) {
		t.Fatalf("got %+v, want %d results", got, len(want))
	}
	for i, w := range want {
		r := got.Results[i]
		passage := ""
		switch {
		case w.Passage != nil:
			passage = w.Passage.Text
		case w.Path != "":
			passage = w.Document
		}
		if r.Path != w.Path || (r.Index == nil) != (w.Path != "") || r.Index != nil && *r.Index != w.Index || r.Score == nil || !clitest.Near(*r.Score, w.Score) || r.Passage != passage {
			t.Errorf("rank %d: got %s, want %+v", i, encode(t, r), w)
		}
	}
}

// TestTool checks what a client is told.
func TestTool(t *testing.T) {
	model, dir, other := clitest.TinyModel(t), t.TempDir(), t.TempDir()
	for _, test := range []struct {
		roots []string
		want  string
	}{
		{nil, "No path is allowed"}, {[]string{"--root", dir}, "below " + dir + "."}, {[]string{"--root", dir, "--root", other}, dir + " or " + other + ". Paths are absolute."},
	} {
		session := streamed(t, append([]string{"--model", model, "--max-documents", "7"}, test.roots...)...)
		list, err := session.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 1 || list.NextCursor != "" {
			t.Fatalf("got %+v, %v", list, err)
		}
		tool := list.Tools[0]
		schema := encode(t, tool.InputSchema)
		if tool.Name != "rerank" || !tool.Annotations.ReadOnlyHint || *tool.Annotations.OpenWorldHint || !strings.Contains(schema, test.want) || !strings.Contains(schema, `"maxItems":7`) || tool.OutputSchema == nil {
			t.Errorf("got %s", encode(t, tool))
		}
		capabilities := encode(t, session.InitializeResult().Capabilities)
		if !strings.HasPrefix(capabilities, `{"tools":{`) || strings.Count(capabilities, ":{") != 1 {
			t.Errorf("capabilities %s, want tools alone", capabilities)
		}
	}
}

// TestCache asks twice, in two runs with one folder: the second has computed nothing. The
// control has no cache.
func TestCache(t *testing.T) {
	model, folder := clitest.TinyModel(t), filepath.Join(t.TempDir(), "scores")
	var want *answer
	for _, test := range []struct {
		args         []string
		hits, misses string // of 7 passages, "" without a cache
	}{
		{[]string{"--cache-mb", "0"}, "", ""}, {nil, "7", "7"}, {[]string{"--cache", folder}, "7", "7"}, {[]string{"--cache", folder}, "14", "0"},
	} {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			address, session := served(t, append([]string{"--model", model}, test.args...)...)
			for range 2 {
				got, failure := ask(t, session, object{"query": "city", "documents": documents})
				if failure != "" {
					t.Fatal(failure)
				}
				if want == nil {
					want = got
				}
				if encode(t, got) != encode(t, want) {
					t.Errorf("got %s, want %s", encode(t, got), encode(t, want))
				}
			}
			_, metrics := send(t, "GET", strings.Replace(address, "/mcp", "/metrics", 1), "")
			for name, want := range map[string]string{"hits": test.hits, "misses": test.misses} {
				found := regexp.MustCompile(`(?m)^mlxrank_cache_` + name + `_total\S* (\d+)$`).FindStringSubmatch(metrics)
				if got := append(found, "", "")[1]; got != want {
					t.Errorf("the metrics count %s %s, want %s", got, name, want)
				}
			}
		})
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "mcp", "--model", model, "--cache-mb", "-1"), command.ExitUsage, "--cache-mb is -1; expected 0 to 1048576")
}

// TestAccess calls over HTTP from other places than the client.
func TestAccess(t *testing.T) {
	model, key := clitest.TinyModel(t), clitest.WriteFile(t, filepath.Join(t.TempDir(), "key"), "a-key\n")
	open, _ := served(t, "--model", model)
	locked := start(t, "--http", "127.0.0.1:0", "--model", model, "--api-key-file", key).address(t)
	const call = `{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "rerank", "arguments": {"query": "city", "documents": ["water"]}}}`
	for _, test := range []struct {
		name, method, url, body string
		headers                 []string
		status                  int
		want                    string
	}{
		{"a call", "POST", open, call, nil, 200, `\"ranked\":1`},
		{"another host", "POST", open, call, []string{"Host", "evil.example"}, 403, "--allowed-host evil.example"},
		{"a page of another site", "POST", open, call, []string{"Origin", "https://evil.example"}, 403, "pages of other sites"},
		{"a page of this server", "POST", open, call, []string{"Origin", strings.TrimSuffix(open, "/mcp")}, 200, `\"ranked\":1`},
		{"a form", "POST", open, call, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"a stream", "GET", open, "", nil, 405, "/mcp takes POST"},
		{"the end of a session", "DELETE", open, "", nil, 405, "/mcp takes POST"},
		{"no message", "POST", open, "{", nil, 400, ""},
		{"5 MB of arguments", "POST", open, strings.Replace(call, `["water"]`, `["`+strings.Repeat("x", 5<<20)+`"], "top": 1`, 1), nil, 200, "there is no argument"},
		{"many values", "POST", open, "[" + strings.Repeat("[],", 200_000) + "[]]", nil, 413, "too many JSON values"},
		{"a large body", "POST", open, strings.Repeat(" ", 16<<20+1), nil, 413, "exceeds 16777216 bytes"},
		{"a route of serve", "POST", strings.Replace(open, "/mcp", "/rerank", 1), `{"query": "q", "texts": ["t"]}`, nil, 404, "no such path"},
		{"health", "GET", strings.Replace(open, "/mcp", "/health", 1), "", nil, 200, ""},
		{"readiness", "GET", strings.Replace(open, "/mcp", "/ready", 1), "", nil, 200, "ready"},
		{"metrics", "GET", strings.Replace(open, "/mcp", "/metrics", 1), "", nil, 200, "mlxrank_requests"},
		{"no key", "POST", locked, call, nil, 401, "Authorization: Bearer KEY"},
		{"a wrong key", "POST", locked, call, []string{"Authorization", "Bearer b-key"}, 401, "Authorization: Bearer KEY"},
		{"the key", "POST", locked, call, []string{"Authorization", "Bearer a-key"}, 200, `\"ranked\":1`},
		{"the key under another name", "POST", locked, call, []string{"Authorization", "Bearer a-key", "Host", "rerank.example"}, 200, `\"ranked\":1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := send(t, test.method, test.url, test.body, test.headers...)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d, want %d: %.300s", status, test.status, body)
			}
		})
	}
	session := connect(t, &sdk.StreamableClientTransport{Endpoint: locked, HTTPClient: &http.Client{Transport: keyed("a-key")}})
	if got, failure := ask(t, session, object{"query": "city", "documents": []string{"water"}}); failure != "" || len(got.Results) != 1 {
		t.Errorf("with the key: %+v, %s", got, failure)
	}
}

// keyed sends a key.
type keyed string

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(k))
	return http.DefaultTransport.RoundTrip(r)
}

// send sends a request and returns the status and the body of the answer.
func send(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(w.Body)
	if cerr := w.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return w.StatusCode, string(data)
}

func TestErrors(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	file := clitest.WriteFile(t, filepath.Join(dir, "file"), "x")
	for _, test := range []struct {
		name   string
		args   []string
		status int
		words  []string
	}{
		{"an open address without a key", []string{"--http", "0.0.0.0:0"}, command.ExitUsage, []string{"--http 0.0.0.0:0", "--api-key-file"}},
		{"no address", []string{"--http", "here"}, command.ExitFailure, []string{"--http", "here"}},
		{"a root that is missing", []string{"--root", filepath.Join(dir, "none")}, command.ExitFailure, []string{"--root: ", "none"}},
		{"a root that is a file", []string{"--root", file}, command.ExitFailure, []string{"--root: ", "not a directory"}},
		{"no documents", []string{"--max-documents", "0"}, command.ExitUsage, []string{"--max-documents 0"}},
		{"a missing model", []string{"--model", filepath.Join(dir, "none")}, command.ExitFailure, []string{"none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"mcp", "--log-level", "warn"}, test.args...)
			if !slices.Contains(args, "--model") {
				args = append(args, "--model", model)
			}
			clitest.CheckFailure(t, mlxrank.Run(t, "", args...), test.status, test.words...)
		})
	}
}

// TestCancel cancels calls that the model is busy with. The engine drops the rest of
// them, and the next call is answered.
func TestCancel(t *testing.T) {
	model := clitest.TinyModel(t)
	many := make([]string, 900)
	for i := range many {
		many[i] = fmt.Sprintf("%d %s", i, strings.Repeat("river ", 100))
	}
	for name, flags := range map[string][]string{"streams": nil, "HTTP": {"--http", "127.0.0.1:0"}} {
		t.Run(name, func(t *testing.T) {
			r := start(t, append(flags, "--model", model)...)
			var transport sdk.Transport = &sdk.IOTransport{Reader: io.NopCloser(r.out), Writer: r.in}
			if flags != nil {
				transport = &sdk.StreamableClientTransport{Endpoint: r.address(t)}
			}
			session := connect(t, transport)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer cancel()
				r.waitForLog(t, `"message":"batch"`)
			}()
			if result, err := session.CallTool(ctx, &sdk.CallToolParams{Name: "rerank", Arguments: object{"query": "city", "documents": many}}); err == nil {
				t.Errorf("got %+v", result)
			}
			r.waitForLog(t, `"error":"context canceled"`)
			if got, failure := ask(t, session, object{"query": "city", "documents": documents}); failure != "" || got.Ranked != len(documents) {
				t.Errorf("the next call: %+v, %s", got, failure)
			}
		})
	}
}

// TestConcurrentCalls calls with several clients at once. Each answer is that of its
// call.
func TestConcurrentCalls(t *testing.T) {
	model := clitest.TinyModel(t)
	address, _ := served(t, "--model", model)
	stream := streamed(t, "--model", model)
	var clients sync.WaitGroup
	for client := range 8 {
		session := stream
		if client%2 == 0 {
			session = connect(t, &sdk.StreamableClientTransport{Endpoint: address})
		}
		clients.Go(func() {
			for call := range 10 {
				texts := documents[:1+(client+call)%len(documents)]
				if got, failure := ask(t, session, object{"query": "city", "documents": texts}); failure != "" || got.Ranked != len(texts) || len(got.Results) != len(texts) {
					t.Errorf("got %+v, %s, want %d results", got, failure, len(texts))
				}
			}
		})
	}
	clients.Wait()
}

// TestStreamEnds checks that standard output has nothing but messages, and that the
// command ends when the client closes its end.
func TestStreamEnds(t *testing.T) {
	r := start(t, "--model", clitest.TinyModel(t))
	lines := bufio.NewScanner(r.out)
	for _, message := range []string{
		`{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}`,
		`{"jsonrpc": "2.0", "method": "notifications/initialized"}`,
		`{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "rerank", "arguments": {"query": "city", "documents": ["water"]}}}`,
	} {
		if _, err := io.WriteString(r.in, message+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	for id := 1; id <= 2; id++ {
		var answer struct {
			JSONRPC string
			ID      int
			Error   any
		}
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &answer) != nil || answer.JSONRPC != "2.0" || answer.ID != id || answer.Error != nil {
			t.Fatalf("answer %d: %q", id, lines.Bytes())
		}
	}
	if err := r.in.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		t.Fatal("the command does not end")
	}
	if lines.Scan() || r.status != 0 {
		t.Errorf("status %d, and more output: %q", r.status, lines.Bytes())
	}
	if log := r.log.String(); !strings.Contains(log, `"level":"debug"`) || strings.Contains(log, "water") {
		t.Errorf("the log has no events, or texts:\n%s", log)
	}
}
