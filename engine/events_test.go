package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// A syncBuffer is a log that several goroutines may write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) lines() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Split(bytes.TrimSpace(bytes.Clone(s.b.Bytes())), []byte("\n"))
}

func eventsSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(EventsSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("events.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("events.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// checkEvents checks each line against the schema and counts them by message.
func checkEvents(t *testing.T, lines [][]byte) map[string]int {
	t.Helper()
	schema := eventsSchema(t)
	counts := make(map[string]int)
	for _, line := range lines {
		event, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if err := schema.Validate(event); err != nil {
			t.Errorf("%s\n%v", line, err)
		}
		counts[event.(map[string]any)["message"].(string)]++
	}
	return counts
}

func TestEventsOfTheRealEngine(t *testing.T) {
	const secret = "Xylophonquark"
	var log syncBuffer
	e := openTinyEngine(t, Config{Logger: zerolog.New(&log).With().Timestamp().Logger(), MaxLength: 20})
	r := rand.New(rand.NewPCG(1, 2))
	start := time.Now()
	for i := 0; time.Since(start) < 1500*time.Millisecond || i < 20; i++ {
		pairs := randomPairs(r, 1+r.IntN(40))
		pairs[0].Document += " " + secret
		pairs[0].Query = secret + " " + strings.Repeat("x", 3) // a word outside the vocabulary
		scorePairs(t, e, append(pairs, pairs[0]))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
	defer cancel()
	if _, err := e.Score(ctx, randomPairs(r, 500)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := e.Score(context.Background(), []Pair{{secret, secret + strings.Repeat("\u2588"+secret[:1], mostBytes/2)}}); err == nil {
		t.Error("the endless text was scored")
	}
	stats := e.Stats()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	lines := log.lines()
	counts := checkEvents(t, lines)
	if counts["request"] < 20 || counts["batch"] < 20 || counts["second"] < 1 || int64(counts["batch"]) < stats.Batches {
		t.Errorf("events: %v; %d batches", counts, stats.Batches)
	}
	whole := string(bytes.ToLower(bytes.Join(lines, nil)))
	for _, text := range []string{strings.ToLower(secret), "xxx", "hill"} {
		if strings.Contains(whole, text) {
			t.Errorf("the log contains the text %q", text)
		}
	}
	t.Logf("%v", counts)
}

// An event has keys only for measured figures, with the names of the schema.
func TestEventsAbsentAndPresent(t *testing.T) {
	t.Parallel()
	half := 0.5
	for name, test := range map[string]struct {
		machine telemetry.Machine
		err     error
		present []string
		absent  []string
	}{
		"a Mac": {
			telemetry.Machine{CPUUsagePct: &half, ProcessMemoryMB: &half, GPUUtilizationPct: &half, GPUMemoryMB: &half}, nil,
			[]string{"cpu_usage_pct", "process_memory_mb", "gpu_utilization_pct", "gpu_memory_mb"}, []string{"sample_error"},
		},
		"elsewhere": {
			telemetry.Machine{ProcessMemoryMB: &half}, errors.New("no CPU time"),
			[]string{"process_memory_mb", "sample_error"}, []string{"cpu_usage_pct", "gpu_utilization_pct"},
		},
	} {
		var log syncBuffer
		s := fakeSettings()
		s.log = zerolog.New(&log).Level(zerolog.InfoLevel)
		s.machine = func(context.Context, bool) (telemetry.Machine, error) { return test.machine, test.err }
		bubble(t, s, newTimedBackend(700*time.Millisecond), func(t *testing.T, e *Engine) {
			scorePairs(t, e, somePairs(30))
			time.Sleep(10 * time.Second) // idle
			scorePairs(t, e, somePairs(5))
			time.Sleep(10 * time.Second)
		})
		lines := log.lines()
		counts := checkEvents(t, lines)
		if counts["second"] < 3 || counts["second"] > 6 {
			t.Errorf("%s: %d seconds logged, want about four with activity", name, counts["second"])
		}
		for _, line := range lines {
			var event map[string]any
			if err := json.Unmarshal(line, &event); err != nil {
				t.Fatal(err)
			}
			for _, key := range test.present {
				if _, ok := event[key]; !ok {
					t.Errorf("%s: %s is absent: %s", name, key, line)
				}
			}
			for _, key := range test.absent {
				if _, ok := event[key]; ok {
					t.Errorf("%s: %s is present: %s", name, key, line)
				}
			}
			if _, ok := event["latency_ms"]; ok != (event["requests"] != 0.0) {
				t.Errorf("%s: latency without a request, or a request without latency: %s", name, line)
			}
		}
	}
}

// The schema rejects wrong events.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := eventsSchema(t)
	good := `{"level":"trace","pairs":3,"requests":1,"microbatches":1,"tokens":30,"computed_tokens":33,"padding_waste_pct":9.1,"inference_ms":1.5,"predicted_ms":1.4,"message":"batch"}`
	for name, change := range map[string][2]string{
		"valid event":     {"", ""},
		"wrong level":     {"trace", "debug"},
		"unknown key":     {"inference_ms", "inference"},
		"negative":        {"1.5", "-1.5"},
		"text":            {`"pairs":3`, `"pairs":3,"query":"secret"`},
		"wrong type":      {`"tokens":30`, `"tokens":"30"`},
		"unknown message": {`"batch"`, `"other"`},
	} {
		event, err := jsonschema.UnmarshalJSON(strings.NewReader(strings.Replace(good, change[0], change[1], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(event); (err == nil) != (change[0] == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// With OmitRequestEvents the log has all other events.
func TestOmitRequestEvents(t *testing.T) {
	var log syncBuffer
	e := openTinyEngine(t, Config{Logger: zerolog.New(&log).With().Timestamp().Logger(), OmitRequestEvents: true})
	scorePairs(t, e, []Pair{{"q", "d"}})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if counts := checkEvents(t, log.lines()); counts["request"] != 0 || counts["batch"] != 1 {
		t.Errorf("events: %v, want no request and one batch", counts)
	}
}
