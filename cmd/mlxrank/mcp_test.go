package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// TestMCP starts the program as clients of the protocol do, and compares its tool with
// the command rerank, for documents and for files.
func TestMCP(t *testing.T) {
	t.Parallel()
	model, root := tinyModel(t), t.TempDir()
	for name, text := range map[string]string{"a.md": "# london", "b.txt": "water", "c.html": "<p>a <b>city</b>"} {
		weightstest.WriteFile(t, filepath.Join(root, name), []byte(text))
	}
	cmd, stderr := command(t, "mcp", "--model", model, "--root", root)
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), &mcp.CommandTransport{Command: cmd}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for name, call := range map[string]struct {
		given any
		args  []string
	}{
		"documents": {[]string{"london", "water", "a city"}, []string{"--", "london", "water", "a city"}},
		"paths":     {[]string{root}, []string{"--files", root}},
	} {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "rerank", Arguments: map[string]any{"query": "city", name: call.given}})
		if err != nil || result.IsError {
			t.Fatalf("%+v, %v\n%s", result, err, stderr)
		}
		got, err := json.Marshal(result.StructuredContent)
		if err != nil {
			t.Fatal(err)
		}
		out, err := commandOutput(t, append([]string{"rerank", "--model", model, "--json", "--query", "city"}, call.args...)...)
		if err != nil {
			t.Fatal(err)
		}
		checkSameResults(t, got, out)
	}
	if err := session.Close(); err != nil || cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("the program ends with %v, %v\n%s", cmd.ProcessState, err, stderr)
	}
}

func commandOutput(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	cmd, stderr := command(t, args...)
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(err, errors.New(stderr.String()))
	}
	return out, err
}

// checkSameResults compares the results of two answers.
func checkSameResults(t *testing.T, got, want []byte) {
	t.Helper()
	type ranking struct {
		Results []struct {
			Index int
			Path  string
			Score float64
		}
	}
	var a, b ranking
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal(want, &b)); err != nil || len(a.Results) != 3 || len(b.Results) != 3 {
		t.Fatalf("%v: %s, %s", err, got, want)
	}
	for i, w := range b.Results {
		r := a.Results[i]
		if r.Path != w.Path || r.Path == "" && r.Index != w.Index || math.Abs(r.Score-w.Score) > 1e-6 {
			t.Errorf("rank %d has %+v, want %+v", i, r, w)
		}
	}
}

// TestMCPStreams checks that standard output has one message a line and nothing else,
// however much is logged, and that the end of standard input and signals end the program
// with status 0.
func TestMCPStreams(t *testing.T) {
	t.Parallel()
	model := tinyModel(t)
	for _, signal := range []syscall.Signal{0, syscall.SIGINT, syscall.SIGTERM} {
		cmd, stderr := command(t, "mcp", "--model", model, "--log-level", "trace")
		talk := converse(t, cmd)
		talk.write(t, `{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}`+"\n")
		checkMessage(t, talk.read(t), 0)
		talk.write(t, `{"jsonrpc": "2.0", "method": "notifications/initialized"}`+"\n")
		for id := 1; id <= 3; id++ {
			talk.write(t, fmt.Sprintf(`{"jsonrpc": "2.0", "id": %d, "method": "tools/call", "params": {"name": "rerank", "arguments": {"query": "city", "documents": ["a city"]}}}`+"\n", id))
			checkMessage(t, talk.read(t), id)
		}
		if signal == 0 {
			if err := talk.in.Close(); err != nil {
				t.Fatal(err)
			}
		} else if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(talk.out); err != nil || len(rest) > 0 {
			t.Errorf("more output: %q, %v", rest, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("signal %v: %v\n%s", signal, err, stderr)
		}
		if log := stderr.String(); strings.Count(log, "request") < 3 || strings.Contains(log, "a city") {
			t.Errorf("the log lacks requests, or has texts:\n%s", log)
		}
	}
}

func checkMessage(t *testing.T, line string, id int) {
	t.Helper()
	var message struct {
		JSONRPC string
		ID      int
		Result  any
	}
	if err := json.Unmarshal([]byte(line), &message); err != nil || message.JSONRPC != "2.0" || message.ID != id || message.Result == nil {
		t.Fatalf("%v: %q, want the answer of %d", err, line, id)
	}
}
