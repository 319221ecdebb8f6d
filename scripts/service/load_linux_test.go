package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A question is a request whose answer is known.
type question struct {
	body   string
	logits []float32 // by document
}

var words = strings.Fields("city water data river london page music image editor mail reader photo resize network cable the a of in")

// newQuestions makes requests that are all different, and has `mlxrank score` score them.
func newQuestions(t *testing.T, n, documents, length int) []question {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		picked := make([]string, n)
		for i := range picked {
			picked[i] = words[r.IntN(len(words))]
		}
		return strings.Join(picked, " ")
	}
	var input bytes.Buffer
	questions, lines := make([]question, n), json.NewEncoder(&input)
	for i := range questions {
		query, texts := fmt.Sprint(i, " ", text(3)), make([]string, documents)
		for j := range texts {
			texts[j] = text(length)
			if err := lines.Encode(map[string]string{"query": query, "document": texts[j]}); err != nil {
				t.Fatal(err)
			}
		}
		body, err := json.Marshal(map[string]any{"query": query, "texts": texts, "raw_scores": true})
		if err != nil {
			t.Fatal(err)
		}
		questions[i].body = string(body)
	}
	dir := t.TempDir()
	output := filepath.Join(dir, "scores.jsonl")
	cmd := exec.CommandContext(t.Context(), program, "score", "--model", "builtin", "--device", "cpu", "--activation", "raw", "--quiet",
		"--input", writeFile(t, filepath.Join(dir, "pairs.jsonl"), input.String()), "--output", output)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mlxrank score: %v: %s", err, out)
	}
	scored, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	lineReader := json.NewDecoder(bytes.NewReader(scored))
	for i := range questions {
		for range documents {
			var line struct{ Score *float32 }
			if err := lineReader.Decode(&line); err != nil || line.Score == nil {
				t.Fatalf("the output of mlxrank score: %v: %s", err, scored)
			}
			questions[i].logits = append(questions[i].logits, *line.Score)
		}
	}
	return questions
}

// check reports what is wrong with an answer.
func (q *question) check(answer []byte) error {
	var results []struct {
		Index int
		Score float32
	}
	if err := json.Unmarshal(answer, &results); err != nil {
		return fmt.Errorf("%w: %s", err, answer)
	}
	got := make(map[int]float32)
	for _, r := range results {
		got[r.Index] = r.Score
	}
	want := maps.Collect(slices.All(q.logits))
	if !maps.Equal(got, want) || len(results) != len(want) {
		return fmt.Errorf("the logits are %v, mlxrank score prints %v", got, want)
	}
	return nil
}

// A load is several clients of one address. Each sends a request when the last one is
// answered, and never repeats one.
type load struct {
	name string
	url  string
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	total    int            // answered since the start
	answered int            // with the right scores
	wrong    []string       // answers with other scores or another request's id
	failed   map[string]int // by status or error
}

func startLoad(t *testing.T, name, url string, questions []question, clients int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{name: name, url: url, stop: stop, failed: map[string]int{}}
	for i := range clients {
		l.done.Go(func() { l.repeat(ctx, questions, i) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.done.Wait()
}

func (l *load) repeat(ctx context.Context, questions []question, client int) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	caller := &http.Client{Transport: transport, Timeout: patience}
	for n := client; ctx.Err() == nil; n++ {
		q := &questions[n%len(questions)]
		id := fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(l.name, " ", "-"), client, n)
		// A request that has begun is waited for when the load ends.
		status, header, answer, err := post(context.WithoutCancel(ctx), caller, l.url, q.body, "X-Request-Id", id)
		l.add(q, id, status, header, answer, err)
		time.Sleep(5 * time.Millisecond)
	}
}

func (l *load) add(q *question, id string, status int, header http.Header, answer []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err != nil:
		l.failed[err.Error()]++
	case status != http.StatusOK:
		l.failed[fmt.Sprint(status)]++
	default:
		if err = q.check(answer); err == nil && header.Get("X-Request-Id") != id {
			err = fmt.Errorf("X-Request-Id is %q, want %q", header.Get("X-Request-Id"), id)
		}
		if err != nil {
			l.wrong = append(l.wrong, err.Error())
			return
		}
		l.answered++
		l.total++
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// take returns what was counted since the last call.
func (l *load) take() (answered int, wrong []string, failed map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	answered, wrong, failed = l.answered, l.wrong, l.failed
	l.answered, l.wrong, l.failed = 0, nil, map[string]int{}
	return answered, wrong, failed
}

// post sends a request for scores with the key.
func post(ctx context.Context, caller *http.Client, url, body string, headers ...string) (int, http.Header, []byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/rerank", strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w, err := caller.Do(r)
	if err != nil {
		return 0, nil, nil, err
	}
	answer, err := io.ReadAll(w.Body)
	if cerr := w.Body.Close(); err == nil {
		err = cerr
	}
	return w.StatusCode, w.Header, answer, err
}

// TestCheck gives check wrong answers, which it must reject.
func TestCheck(t *testing.T) {
	t.Parallel()
	q := question{logits: []float32{0.5, -1.25}}
	for answer, right := range map[string]bool{
		`[{"index":0,"score":0.5},{"index":1,"score":-1.25}]`:                           true,
		`[{"index":1,"score":0.5},{"index":0,"score":-1.25}]`:                           false,
		`[{"index":0,"score":0.5},{"index":1,"score":-1.2500001}]`:                      false,
		`[{"index":0,"score":0.5}]`:                                                     false,
		`[{"index":0,"score":0.5},{"index":1,"score":-1.25},{"index":0,"score":0.5}]`:   false,
		`[{"index":0,"score":0.5},{"index":1,"score":-1.25},{"index":2,"score":-1.25}]`: false,
		`{"error":"the server is stopping","error_type":"Unhealthy"}`:                   false,
		``: false,
	} {
		if err := q.check([]byte(answer)); (err == nil) != right {
			t.Errorf("%s: %v, want right: %v", answer, err, right)
		}
	}
}
