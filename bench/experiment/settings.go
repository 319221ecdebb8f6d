// Package experiment reads what a benchmark measures: YAML and flags become the
// settings of points.
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

// Settings configure one point of an experiment. Two points with equal settings
// measure the same. 0 and "" stand for the engine's defaults.
type Settings struct {
	Model     string `json:"model"`
	Adapter   string `json:"adapter"`
	Device    string `json:"device"`
	DType     string `json:"dtype"`
	MaxLength int    `json:"max_length"`

	Dataset     string `json:"dataset"`
	DatasetSize int    `json:"dataset_size"`
	Mode        string `json:"mode"`

	Batch       int     `json:"batch"`       // pairs per request
	Concurrency int     `json:"concurrency"` // concurrent requests; 0 in an open loop
	Rate        float64 `json:"rate"`        // requests per second of an open loop, else 0
	Requests    int     `json:"requests"`    // 0 if Duration ends the run
	Duration    Time    `json:"duration"`

	MaxBatch         int     `json:"max_batch"`
	MaxBatchTokens   int     `json:"max_batch_tokens"`
	BatchTimeoutMS   float64 `json:"batch_timeout_ms"` // 0: a free device takes the waiting pairs at once
	LengthAware      bool    `json:"length_aware"`
	Threads          int     `json:"threads"` // CPU threads that compute
	TokenizerWorkers int     `json:"tokenizer_workers"`

	Warmup int    `json:"warmup"` // requests before the run that are not measured
	Runs   int    `json:"runs"`
	Seed   uint64 `json:"seed"` // of the open loop's arrivals
}

// Open reports whether requests arrive on a schedule, whether or not earlier ones
// were answered.
func (s Settings) Open() bool { return s.Rate > 0 }

// A Time is a duration that JSON writes as "200ms".
type Time time.Duration

func (t Time) String() string { return time.Duration(t).String() }

// MarshalJSON writes the duration as a string.
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

// UnmarshalJSON also reads the keys of version 0.1: policy and timeout.
func (s *Settings) UnmarshalJSON(data []byte) error {
	type settings Settings
	old := struct {
		Policy  string `json:"policy"`
		Timeout Time   `json:"timeout"`
		*settings
	}{settings: (*settings)(s)}
	err := json.Unmarshal(data, &old)
	if old.Policy == "window" {
		s.BatchTimeoutMS = float64(old.Timeout) / float64(time.Millisecond)
	}
	return err
}

// Value formats the setting of a key.
func (s Settings) Value(key string) string {
	data, err := json.Marshal(s)
	if err != nil {
		return err.Error() // never: JSON can encode all settings
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		return err.Error()
	}
	return fmt.Sprint(fields[key])
}

// Label names a point by its batch, its concurrency and the swept keys.
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
