package fleet

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/clitest/commandtest"
	"github.com/mlxrank/mlxrank/cli/score"
)

var mlxrank = commandtest.New(Command, score.Command).Program()

func TestMain(m *testing.M) { os.Exit(clitest.Isolate(m)) }

// A logBuffer keeps what commands in the background log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A background is a command that runs until the end of the test.
type background struct {
	stop func()
	done chan int
	log  *logBuffer
}

// run starts a command, whose first line of output it returns if wait is set.
func run(t *testing.T, wait bool, args ...string) (string, *background) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	b := &background{stop: cancel, done: make(chan int, 1), log: &logBuffer{}}
	go func() {
		status := mlxrank(ctx, append([]string{"mlxrank"}, args...), strings.NewReader(""), in, b.log)
		in.Close() //nolint:errcheck // it never fails
		b.done <- status
	}()
	t.Cleanup(func() {
		cancel()
		out.Close() //nolint:errcheck // it never fails
		select {
		case <-b.done:
		case <-time.After(time.Minute):
			t.Errorf("%q did not stop; it logged %s", args, b.log)
		}
	})
	if !wait {
		go io.Copy(io.Discard, out) //nolint:errcheck // the command has no results
		// Commands that start at the same time would share urfave/cli's flag for help.
		waitFor(t, "the first line of the log", func() bool { return b.log.String() != "" })
		return "", b
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil {
		t.Fatalf("%q printed nothing (%v); it logged %s", args, err, b.log)
	}
	go io.Copy(io.Discard, lines) //nolint:errcheck // only the first line counts
	return line, b
}

// startServer starts a server and returns its address.
func startServer(t *testing.T) string {
	t.Helper()
	line, _ := run(t, true, "fleet", "start", "--listen", "127.0.0.1:0", "--dir", t.TempDir(), "--max-store", "1GB")
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "mlxrank fleet work --join ")
	if !ok {
		t.Fatalf("start printed %q, expected the command of a worker", line)
	}
	return url
}

// startWorkers starts workers, with one thread each.
func startWorkers(t *testing.T, url string, n int) {
	t.Helper()
	for i := range n {
		run(t, false, "fleet", "work", "--join", url, "--name", fmt.Sprint("worker", i), "--threads", "1")
	}
}

// An inputCase is an input of score.
type inputCase struct {
	name, text string
	flags      []string
}

func inputCases(t *testing.T) []inputCase {
	var jsonl, tsv, marco, run, queries, documents, table strings.Builder
	table.WriteString("query,document\n")
	for i := range 700 {
		q, d := i/7, fmt.Sprintf("page %d about rivers, lakes and %s", i, strings.Repeat("water ", i%9))
		fmt.Fprintf(&jsonl, `{"id": %d, "query": "query %d", "document": "%s"}`+"\n", i, q, d)
		fmt.Fprintf(&tsv, "query %d\t%s\n", q, d)
		fmt.Fprintf(&marco, "%d\t%d\tquery %d\t%s\n", q, i, q, d)
		fmt.Fprintf(&run, "%d Q0 %d %d 1.5 bm25\n", q, i, i%7+1)
		fmt.Fprintf(&documents, "%d\t%s\n", i, d)
		fmt.Fprintf(&table, "query %d,\"%s\nand more\"\n", q, d)
		if i%50 == 7 {
			jsonl.WriteString("{\"query\": 5}\nnot JSON\n\n")
			tsv.WriteString("one column\n")
			marco.WriteString("\xff\xfe\n")
		}
	}
	for q := range 100 {
		fmt.Fprintf(&queries, "%d\tquery %d\n", q, q)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	texts := []string{"--queries", write("queries.tsv", queries.String()), "--documents", write("documents.tsv", documents.String())}
	skip := []string{"--on-error", "skip"}
	return []inputCase{
		{"pairs.jsonl", jsonl.String(), skip},
		{"pairs.tsv", tsv.String(), skip},
		{"marco.tsv", marco.String(), append([]string{"--format", "msmarco"}, skip...)},
		{"marco-to-trec.tsv", marco.String(), append([]string{"--format", "msmarco", "--output-format", "trec"}, skip...)},
		{"bm25.run", run.String(), append([]string{"--format", "trec"}, texts...)},
		{"pairs.csv", table.String(), nil},
		{"empty.jsonl", "", nil},
	}
}

// TestSubmitEqualsScore compares the output of a fleet with the one of score.
func TestSubmitEqualsScore(t *testing.T) {
	url := startServer(t)
	startWorkers(t, url, 2)
	model := clitest.TinyModel(t)
	for _, tc := range inputCases(t) {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			in, one, many := filepath.Join(dir, tc.name), filepath.Join(dir, "one"), filepath.Join(dir, "many")
			if err := os.WriteFile(in, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			flags := append([]string{"--model", model, "--input", in}, tc.flags...)
			mlxrank.MustRun(t, "", append([]string{"score", "--output", one}, flags...)...)
			r := mlxrank.MustRun(t, "", append([]string{"fleet", "submit", "--join", url, "--part-pairs", "64", "--output", many}, flags...)...)
			if r.Out != "" {
				t.Errorf("standard output is %q", r.Out)
			}
			checkSame(t, one, many)
		})
	}
	if r := mlxrank.MustRun(t, "", "fleet", "list", "--json", "--join", url); strings.Count(r.Out, `"done"`) != len(inputCases(t)) {
		t.Errorf("list: %s", r.Out)
	}
}

func checkSame(t *testing.T, one, many string) {
	t.Helper()
	want, err := os.ReadFile(one)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(many)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("the fleet's output differs from that of score: %d and %d bytes", len(got), len(want))
	}
}

// TestAttach interrupts the submitter before any worker is there, and takes the job up.
func TestAttach(t *testing.T) {
	url := startServer(t)
	model, dir := clitest.TinyModel(t), t.TempDir()
	in, one, many := filepath.Join(dir, "pairs.jsonl"), filepath.Join(dir, "one"), filepath.Join(dir, "many")
	if err := os.WriteFile(in, []byte(clitest.PairLines(900)), 0o600); err != nil {
		t.Fatal(err)
	}
	mlxrank.MustRun(t, "", "score", "--model", model, "--input", in, "--output", one)
	_, submitter := run(t, false, "fleet", "submit", "--join", url, "--model", model, "--input", in, "--output", many, "--part-pairs", "100", "--log-level", "info")
	job := ""
	waitFor(t, "the job to be open", func() bool {
		found := regexp.MustCompile(`"job": "([a-z0-9]+)"`).FindStringSubmatch(mlxrank.MustRun(t, "", "fleet", "list", "--json", "--join", url).Out)
		if found == nil {
			return false
		}
		job = found[1]
		return strings.Contains(mlxrank.MustRun(t, "", "fleet", "status", job, "--json", "--join", url).Out, `"queued_parts": 9`)
	})
	submitter.stop()
	if status := <-submitter.done; status != 130 {
		t.Errorf("the interrupted submitter has status %d, expected 130", status)
	}
	submitter.done <- 0
	if log := submitter.log.String(); !strings.Contains(log, "mlxrank fleet attach "+job) {
		t.Errorf("the submitter does not name attach: %s", log)
	}
	startWorkers(t, url, 1)
	mlxrank.MustRun(t, "", "fleet", "attach", job, "--join", url)
	checkSame(t, one, many)
	clitest.CheckFailure(t, mlxrank.Run(t, "", "fleet", "attach", job, "--join", url), 1, "done")
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// TestBadInput has command lines that must fail with a clear message.
func TestBadInput(t *testing.T) {
	url := startServer(t)
	model, dir := clitest.TinyModel(t), t.TempDir()
	in, there := filepath.Join(dir, "pairs.jsonl"), filepath.Join(dir, "there")
	for path, text := range map[string]string{in: clitest.PairLines(10), there: "keep me"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	submit := func(flags ...string) []string {
		return append([]string{"fleet", "submit", "--model", model, "--input", in}, flags...)
	}
	wrong := regexp.MustCompile(`//[^@]*@`).ReplaceAllString(url, "//wrong@")
	for _, tc := range []struct {
		status int
		args   []string
		words  []string
	}{
		{2, submit("--output", "x"), []string{"--join is missing"}},
		{1, submit("--output", "x", "--join", "nats://127.0.0.1:1"), []string{"no fleet server answers", "this machine itself"}},
		{1, submit("--output", "x", "--join", wrong), []string{"rejects the credentials"}},
		{1, submit("--output", there, "--join", url), []string{"exists"}},
		{2, submit("--output", "x", "--join", url, "--store", "ftp://x"), []string{"--store", "expected file:///DIR"}},
		{2, submit("--output", "x", "--join", url, "--store", "file:///no/such/folder"), []string{"no such file"}},
		{2, submit("--output", "x", "--join", url, "--tolerance", "-1"), []string{"--tolerance"}},
		{2, []string{"fleet", "submit", "--model", model, "--input", "-", "--output", "x", "--join", url}, []string{"only once"}},
		{1, []string{"fleet", "cancel", "nosuchjob", "--join", url}, []string{"no such job", "fleet list"}},
		{2, []string{"fleet", "status", "a", "b", "--join", url}, []string{"one JOB"}},
		{2, []string{"fleet", "start", "--max-store", "big"}, []string{"--max-store", "50GB"}},
		{2, []string{"fleet", "start", "--max-store", "60MB"}, []string{"--max-store 60MB", "at least 64MiB"}},
		{1, []string{"fleet", "start", "--listen", strings.TrimPrefix(regexp.MustCompile(`.*@`).ReplaceAllString(url, ""), "//"), "--dir", dir}, []string{"address already in use"}},
	} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", tc.args...), tc.status, tc.words...)
	}
	if data, err := os.ReadFile(there); err != nil || string(data) != "keep me" {
		t.Errorf("the file at the output has %q (%v)", data, err)
	}
}

// TestNoAdmittedWorker has the only worker refused: the submitter logs it, and the job
// goes on when another worker comes.
func TestNoAdmittedWorker(t *testing.T) {
	url := startServer(t)
	model, dir := clitest.TinyModel(t), t.TempDir()
	in, one, many := filepath.Join(dir, "pairs.jsonl"), filepath.Join(dir, "one"), filepath.Join(dir, "many")
	if err := os.WriteFile(in, []byte(clitest.PairLines(300)), 0o600); err != nil {
		t.Fatal(err)
	}
	mlxrank.MustRun(t, "", "score", "--model", model, "--input", in, "--output", one)
	run(t, false, "fleet", "work", "--join", url, "--name", "small", "--max-batch-tokens", "4")
	_, submitter := run(t, false, "fleet", "submit", "--join", url, "--model", model, "--input", in, "--output", many, "--log-level", "info")
	waitFor(t, "the reason why the worker is refused", func() bool {
		log := submitter.log.String()
		return strings.Contains(log, "does not admit a worker") && strings.Contains(log, "small") && strings.Contains(log, "cannot be opened here")
	})
	startWorkers(t, url, 1)
	if status := <-submitter.done; status != 0 {
		t.Fatalf("status %d: %s", status, submitter.log)
	}
	submitter.done <- 0
	checkSame(t, one, many)
}

// TestChangedInput truncates the input while the job waits for a worker. After the file is
// restored, the job goes on.
func TestChangedInput(t *testing.T) {
	url := startServer(t)
	model, dir := clitest.TinyModel(t), t.TempDir()
	in, one, many := filepath.Join(dir, "pairs.jsonl"), filepath.Join(dir, "one"), filepath.Join(dir, "many")
	// More than a reader's buffer has.
	text := strings.ReplaceAll(clitest.PairLines(600), `"id"`, `"pad": "`+strings.Repeat("x", 8000)+`", "id"`)
	write := func(text string) {
		if err := os.WriteFile(in, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	mlxrank.MustRun(t, "", "score", "--model", model, "--input", in, "--output", one)
	_, submitter := run(t, false, "fleet", "submit", "--join", url, "--model", model, "--input", in, "--output", many, "--part-pairs", "100", "--log-level", "info")
	job := ""
	waitFor(t, "the upload", func() bool {
		found := regexp.MustCompile(`"job": "([a-z0-9]+)",\s+"state": "open"`).FindStringSubmatch(mlxrank.MustRun(t, "", "fleet", "list", "--json", "--join", url).Out)
		if found != nil {
			job = found[1]
		}
		return found != nil
	})
	write(text[:len(text)/2])
	startWorkers(t, url, 1)
	if status := <-submitter.done; status != 1 || !strings.Contains(submitter.log.String(), "not the one that was submitted") {
		t.Errorf("status %d after the change: %s", status, submitter.log)
	}
	submitter.done <- 0
	clitest.CheckFailure(t, mlxrank.Run(t, "", "fleet", "attach", job, "--join", url), 1, "submitted")
	write(text)
	mlxrank.MustRun(t, "", "fleet", "attach", job, "--join", url)
	checkSame(t, one, many)
}

// TestCancelled cancels a job while its submitter waits: nothing of the output is left.
func TestCancelled(t *testing.T) {
	url := startServer(t)
	model, dir := clitest.TinyModel(t), t.TempDir()
	in := filepath.Join(dir, "pairs.jsonl")
	if err := os.WriteFile(in, []byte(clitest.PairLines(100)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, submitter := run(t, false, "fleet", "submit", "--join", url, "--model", model, "--input", in, "--output", filepath.Join(dir, "out"), "--log-level", "info")
	job := ""
	waitFor(t, "the job", func() bool {
		if found := regexp.MustCompile(`"job": "([a-z0-9]+)",\s+"state": "open"`).FindStringSubmatch(mlxrank.MustRun(t, "", "fleet", "list", "--json", "--join", url).Out); found != nil {
			job = found[1]
		}
		return job != ""
	})
	mlxrank.MustRun(t, "", "fleet", "cancel", job, "--join", url)
	status := <-submitter.done
	submitter.done <- 0
	if log := submitter.log.String(); status != 1 || !strings.Contains(log, "cancelled") || strings.Contains(log, "changed") {
		t.Errorf("status %d: %s", status, log)
	}
	left, err := filepath.Glob(filepath.Join(dir, "out*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}
