package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
	"github.com/mlxrank/mlxrank/cli/rerank"
	"github.com/mlxrank/mlxrank/cli/serve"
)

var (
	runProgram = commandtest.New(Command, rerank.Command, serve.Command)
	mlxrank    = runProgram.Program()
)

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }

// A running is a run of the command that a test has started.
type running struct {
	in     io.WriteCloser
	out    io.Reader
	cancel context.CancelFunc
	done   chan struct{}
	status int
	log    *logBuffer
}

// start runs the command until its end, which the test awaits.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stdin, in := io.Pipe()
	out, stdout := io.Pipe()
	r := &running{in: in, out: out, cancel: cancel, done: make(chan struct{}), log: &logBuffer{}}
	go func() {
		defer close(r.done)
		r.status = mlxrank(ctx, append([]string{"mlxrank", "mcp", "--log-level", "trace", "--log-format", "json"}, args...), stdin, stdout, r.log)
		if err := errors.Join(stdin.Close(), stdout.Close()); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { r.end(t) })
	return r
}

// end ends the run as a signal does, and checks that it is a success.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		t.Fatalf("the command does not end:\n%s", r.log.String())
	}
	if r.status != 0 {
		t.Errorf("status %d:\n%s", r.status, r.log.String())
	}
}

var listening = regexp.MustCompile(`"address":"([^"]+)"`)

// address waits for the address of a run with --http.
func (r *running) address(t *testing.T) string {
	t.Helper()
	r.waitForLog(t, `"message":"listening"`)
	found := listening.FindStringSubmatch(r.log.String())
	if found == nil {
		t.Fatal("the command does not listen")
	}
	return found[1]
}

// waitForLog waits until the log has a text.
func (r *running) waitForLog(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if strings.Contains(r.log.String(), text) {
			return
		}
	}
	t.Errorf("the log has no %s:\n%.5000s", text, r.log.String())
}

// connect connects a client of the SDK.
func connect(t *testing.T, transport sdk.Transport) *sdk.ClientSession {
	t.Helper()
	session, err := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// A logBuffer is a buffer of several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ask calls the tool. The text of an answer is the JSON of its structured content.
func ask(t *testing.T, session *sdk.ClientSession, args object) (*answer, string) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &sdk.CallToolParams{Name: "rerank", Arguments: args})
	if err != nil {
		t.Fatal(err)
	}
	text, ok := result.Content[0].(*sdk.TextContent)
	if !ok || len(result.Content) != 1 {
		t.Fatalf("content %+v", result.Content)
	}
	if result.IsError {
		if result.StructuredContent != nil {
			t.Errorf("a failure with content %v", result.StructuredContent)
		}
		return nil, text.Text
	}
	structured, err := json.Marshal(result.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var a, b answer
	if err := errors.Join(json.Unmarshal(structured, &a), json.Unmarshal([]byte(text.Text), &b)); err != nil {
		t.Fatal(err)
	}
	if x, y := encode(t, a), encode(t, b); x != y {
		t.Errorf("structured content %s, text %s", x, y)
	}
	return &a, ""
}

func encode(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
