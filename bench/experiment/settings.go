// Package experiment reads what a benchmark is to measure: YAML and flags become
// the settings of one point after another.
package experiment

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Modes of a benchmark.
const (
	Full             = "full"
	TokenizationOnly = "tokenization-only"
	InferenceOnly    = "inference-only"
)

// Policies of the engine's batching.
const (
	Continuous = "continuous"
	Window     = "window"
)

// Settings are all that one point of an experiment is run with. Two points of
// equal settings measure the same. 0 and "" are the engine's defaults.
type Settings struct {
	Model     string `json:"model"`
	Adapter   string `json:"adapter"`
	Device    string `json:"device"`
	DType     string `json:"dtype"`
	MaxLength int    `json:"max_length"`

	Dataset     string `json:"dataset"`
	DatasetSize int    `json:"dataset_size"`
	Mode        string `json:"mode"`

	Batch       int     `json:"batch"`       // pairs of a request
	Concurrency int     `json:"concurrency"` // requests under way at once; 0 in an open loop
	Rate        float64 `json:"rate"`        // requests per second of an open loop, else 0
	Requests    int     `json:"requests"`    // 0 if Duration ends the run
	Duration    Time    `json:"duration"`

	Policy           string `json:"policy"`
	MaxBatch         int    `json:"max_batch"`
	MaxBatchTokens   int    `json:"max_batch_tokens"`
	Timeout          Time   `json:"timeout"`
	LengthAware      bool   `json:"length_aware"`
	Threads          int    `json:"threads"` // that compute on the CPU
	TokenizerWorkers int    `json:"tokenizer_workers"`

	Warmup int    `json:"warmup"` // requests before the run, which are in no figure
	Runs   int    `json:"runs"`
	Seed   uint64 `json:"seed"` // of the open loop's arrivals
}

// Open says whether requests arrive on a schedule, whatever the engine does.
func (s Settings) Open() bool { return s.Rate > 0 }

// A Time is a duration that JSON has as "200ms".
type Time time.Duration

func (t Time) String() string { return time.Duration(t).String() }

// MarshalJSON gives the duration as a string.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads a duration as time.ParseDuration does.
func (t *Time) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	*t = Time(d)
	return err
}

// Value is the setting of a key, as a report has it.
func (s Settings) Value(key string) string {
	data, err := json.Marshal(s)
	if err != nil {
		return err.Error() // no: Settings holds nothing that JSON refuses
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return err.Error()
	}
	return fmt.Sprint(fields[key])
}

// Label names a point by its batch, its concurrency and the keys given.
func (s Settings) Label(swept []string) string {
	parts := []string{fmt.Sprintf("batch=%d", s.Batch), fmt.Sprintf("concurrency=%d", s.Concurrency)}
	if s.Open() {
		parts[1] = fmt.Sprintf("rate=%v", s.Rate)
	}
	for _, key := range swept {
		if key != "batch" && key != "concurrency" && key != "rate" {
			parts = append(parts, key+"="+s.Value(key))
		}
	}
	return strings.Join(parts, ", ")
}
