package mcp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/files"
	"github.com/mlxrank/mlxrank/server"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// openTool returns a tool with limits that a test can reach.
func openTool(t *testing.T, roots ...string) *tool {
	t.Helper()
	opened, err := files.OpenRoots(roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return newTool(clitest.OpenEngine(t, clitest.TinyModel(t)), opened,
		server.Limits{Documents: 4, Characters: 1000, BodyBytes: 2000, Requests: 2, RequestTimeout: time.Minute})
}

// TestRefusals checks the message of each refusal, and that the engine executes nothing.
// The control is a call that it executes.
func TestRefusals(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{
		outside + "/secret.txt": "secret", dir + "/a.txt": "a", dir + "/huge.txt": strings.Repeat("x", 16<<20+1), dir + "/long.txt": strings.Repeat("x", 1001),
		dir + "/wide.txt": strings.Repeat("é", 999), dir + "/d.bin": "\x00\x01\x02", dir + "/empty.txt": " \n",
	} {
		clitest.WriteFile(t, path, text)
	}
	if err := os.Mkdir(dir+"/many", 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		clitest.WriteFile(t, fmt.Sprintf("%s/many/%d.txt", dir, i), "x")
	}
	for link, target := range map[string]string{"out.txt": outside + "/secret.txt", "outdir": outside, "null.txt": "/dev/null"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/fifo.txt", 0o600); err != nil {
		t.Fatal(err)
	}
	tool, rootless := openTool(t, dir), openTool(t)
	query := func(arguments string) string { return `{"query": "city", ` + arguments + `}` }
	for _, test := range []struct{ arguments, want string }{
		{`{"documents": ["a"]}`, "query is empty; give the text"},
		{`{"query": " ", "documents": ["a"]}`, "query is empty"},
		{`{"query": "city"}`, "there are no documents; give texts as documents, or files as paths"},
		{query(`"documents": []`), "there are no documents"},
		{query(`"documents": ["a"], "paths": ["a.txt"]`), "both given; give one"},
		{query(`"documents": "a"`), "documents is a string, expected an array of strings"},
		{query(`"documents": ["a", 5]`), "documents/1 is a number, expected a string"},
		{query(`"documents": ["a"], "top_n": 0`), "top_n is a number, expected a whole number from 1"},
		{query(`"documents": ["a"], "top_n": 1.5`), "top_n is a number, expected a whole number from 1"},
		{query(`"documents": ["a"], "top_n": "3"`), "top_n is a string, expected a whole number from 1"},
		{query(`"documents": ["a"], "deadline_ms": -1`), "deadline_ms is a number, expected a whole number from 1"},
		{query(`"document": ["a"]`), `there is no argument "document"; did you mean documents?; the arguments are query, documents, paths`},
		{query(`"documents": ["a"], "query": "b"`), "the arguments are not valid"},
		{`[]`, "the arguments are an array, expected an object"},
		{`null`, "query is empty"},
		{``, "the arguments are not valid"},
		{query(`"documents": ["1", "2", "3", "4", "5"]`), "too many documents: 5 (limit 4); split the call"},
		{query(`"documents": ["` + strings.Repeat("x", 998) + `"]`), "too many characters: 1002 or more (limit 1000); split the call"},
		{query(`"documents": ["` + strings.Repeat("x", 2000) + `"]`), "bytes (limit 2000); split the call"},
		{query(`"paths": [""]`), "a path is empty"},
		{query(`"paths": ["1", "2", "3", "4", "5"]`), "too many paths: 5 (limit 4); split the call"},
		{query(`"paths": ["many"]`), "more than 4 files match (limit 4); name fewer files"},
		{query(`"paths": ["long.txt"]`), "too many characters: 1005 or more (limit 1000)"},
		{query(`"paths": ["many/0.txt", "many/1.txt", "wide.txt"]`), "too many characters"},
		{query(`"paths": ["huge.txt"]`), "huge.txt: more than 16 MiB"},
		{query(`"paths": ["d.bin"]`), "d.bin: not UTF-8 text"},
		{query(`"paths": ["empty.txt"]`), "empty.txt: no text"},
		{query(`"paths": ["none.txt"]`), dir + "/none.txt: no such file or directory; give a path that exists, below the roots"},
		{query(`"paths": ["*.pdf"]`), "no file matches"},
		{query(`"paths": ["[.txt"]`), "malformed pattern"},
		{query(`"paths": ["../x"]`), "is outside the roots; give a path below " + dir},
		{query(`"paths": ["many/../../x"]`), "is outside the roots"},
		{query(`"paths": ["` + outside + `/secret.txt"]`), "is outside the roots"},
		{query(`"paths": ["` + outside + `/**"]`), "is outside the roots"},
		{query(`"paths": ["/dev/zero"]`), "is outside the roots"},
		{query(`"paths": ["out.txt"]`), "escapes"},
		{query(`"paths": ["outdir/secret.txt"]`), "escapes"},
		{query(`"paths": ["outdir/*.txt"]`), "escapes"},
		{query(`"paths": ["null.txt"]`), "escapes"},
		{query(`"paths": ["fifo.txt"]`), "fifo.txt is not a regular file"},
	} {
		if got, err := tool.rerank(t.Context(), []byte(test.arguments)); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret\"") {
			t.Errorf("%.100s: got %+v, %v, want %q", test.arguments, got, err, test.want)
		}
	}
	if _, err := rootless.rerank(t.Context(), []byte(query(`"paths": ["a.txt"]`))); err == nil || !strings.Contains(err.Error(), "start mlxrank mcp with --root DIR") {
		t.Errorf("without roots: %v", err)
	}
	if s := tool.engine.Stats(); s.Requests != 0 || s.Batches != 0 {
		t.Errorf("refused calls made %d requests and %d batches", s.Requests, s.Batches)
	}
	got, err := tool.rerank(t.Context(), []byte(query(`"paths": ["a.txt", "many/0.txt", "out*.txt"]`)))
	if err != nil {
		t.Fatal(err)
	}
	if s := tool.engine.Stats(); got.Ranked != 2 || s.Requests != 1 || s.Batches == 0 {
		t.Errorf("got %+v and %d requests", got, s.Requests)
	}
	if l := got.LeftOut; l == nil || l.Files != 1 || !strings.Contains(l.First[0], "out.txt: path escapes") {
		t.Errorf("left out: %+v", l)
	}
	if tool.running.Load() != 0 || !tool.texts.TryAcquire(tool.limits.BodyBytesAtOnce) {
		t.Error("calls that have ended still hold their place")
	}
}

// TestLimitsAtOnce refuses calls while others hold all there is.
func TestLimitsAtOnce(t *testing.T) {
	tool := openTool(t)
	call := []byte(`{"query": "city", "documents": ["water"]}`)
	tool.running.Add(2)
	if _, err := tool.rerank(t.Context(), call); err == nil || !strings.Contains(err.Error(), "too many calls: 2 are running (limit 2); try again later") {
		t.Errorf("got %v", err)
	}
	tool.running.Add(-2)
	if !tool.texts.TryAcquire(tool.limits.BodyBytesAtOnce - 4) {
		t.Fatal("no room")
	}
	if _, err := tool.rerank(t.Context(), call); err == nil || !strings.Contains(err.Error(), "the texts of running calls exceed 134217728 bytes; try again later") {
		t.Errorf("got %v", err)
	}
	tool.texts.Release(tool.limits.BodyBytesAtOnce - 4)
	if _, err := tool.rerank(t.Context(), call); err != nil {
		t.Error(err)
	}
}

// TestDeadline ends a call that waits, and reports which time has passed.
func TestDeadline(t *testing.T) {
	tool := openTool(t, t.TempDir())
	for range cap(tool.readers) {
		tool.readers <- struct{}{}
	}
	_, err := tool.rerank(t.Context(), []byte(`{"query": "city", "paths": ["."], "deadline_ms": 20}`))
	if err == nil || !strings.Contains(err.Error(), "not scored within 20ms; allow more time with deadline_ms") {
		t.Errorf("got %v", err)
	}
	for range cap(tool.readers) {
		<-tool.readers
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tool.rerank(ctx, []byte(`{"query": "city", "paths": ["."]}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestPartial scores what it can by the deadline. The rest is last, without scores. The
// model takes many times as long as the tokenizer, which must have finished by then.
func TestPartial(t *testing.T) {
	dir := t.TempDir()
	weightstest.Write(t, dir, weightstest.Spec{Config: weightstest.Tiny(384, 6, 12), Seed: 7})
	tool := newTool(clitest.OpenEngine(t, dir), &files.Roots{}, server.DefaultLimits())
	texts := make([]string, 100)
	for i := range texts {
		texts[i] = fmt.Sprintf(`"%d %s"`, i, strings.Repeat("river city ", 100))
	}
	call := `{"query": "city", "top_n": 100, "documents": [` + strings.Join(texts, ",") + `], "deadline_ms": `
	var got *answer
	var err error
	for ms := 100; got == nil && ms < 60_000; ms *= 2 {
		got, err = tool.rerank(t.Context(), fmt.Appendf(nil, "%s%d}", call, ms))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got.Ranked != len(texts) || len(got.Results) != len(texts) || got.Unscored == 0 {
		t.Fatalf("%d ranked, %d results, %d unscored: the deadline came too late", got.Ranked, len(got.Results), got.Unscored)
	}
	for i, r := range got.Results {
		if unscored := i >= len(texts)-got.Unscored; r.Unscored != unscored || (r.Score == nil) != unscored || unscored && r.Passage != "" {
			t.Fatalf("result %d of %d unscored: %s", i, got.Unscored, encode(t, r))
		}
	}
}
