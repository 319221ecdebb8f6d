package experiment

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkKeys rejects keys that contradict each other, and lists whose points would
// all measure the same.
func checkKeys(values map[string][]string) error {
	for _, pair := range []struct{ a, b, why string }{
		{"requests", "duration", "either ends a run"},
		{"concurrency", "rate", "concurrency sends the next request after an answer, rate on a schedule"},
	} {
		_, a := values[pair.a]
		_, b := values[pair.b]
		if a && b {
			return fmt.Errorf("%s and %s are both given, but %s: leave one out", pair.a, pair.b, pair.why)
		}
	}
	var mode string
	if list := values["mode"]; len(list) == 1 {
		mode = list[0]
	}
	for _, key := range unused[mode] {
		if n := len(values[key]); n > 1 {
			return fmt.Errorf("%s: %d values, but mode %s does not depend on it", key, n, mode)
		}
	}
	return nil
}

// unused lists the keys that a mode ignores.
var unused = map[string][]string{
	TokenizationOnly: {"device", "dtype", "max_batch", "max_batch_tokens", "batch_timeout_ms", "length_aware", "threads"},
	InferenceOnly:    {"tokenizer_workers"},
}

// OfServer checks that the experiment can measure a server, and removes the
// settings of an engine: a server has its own.
func (e *Experiment) OfServer(takesModel bool) error {
	kept := []string{"dataset", "dataset_size", "batch", "concurrency", "rate", "requests", "duration", "warmup", "runs", "seed"}
	for _, key := range e.Swept {
		if !slices.Contains(kept, key) {
			return fmt.Errorf("%s: several values, but the server decides it: leave the key out", key)
		}
	}
	for i, p := range e.Points {
		if p.Mode != Full {
			return fmt.Errorf("mode: %s, but a server is measured in mode %s", p.Mode, Full)
		}
		of := Settings{
			Dataset: p.Dataset, DatasetSize: p.DatasetSize, Mode: p.Mode, Batch: p.Batch, Concurrency: p.Concurrency, Rate: p.Rate,
			Requests: p.Requests, Duration: p.Duration, Warmup: p.Warmup, Runs: p.Runs, Seed: p.Seed,
		}
		if takesModel {
			of.Model = p.Model
		}
		e.Points[i] = of
	}
	return nil
}

// check rejects settings that contradict each other.
func (s Settings) check() error {
	switch {
	case s.Device == "gpu" && s.Threads > 0:
		return fmt.Errorf("threads: %d, but device gpu computes on one thread", s.Threads)
	case s.Mode == TokenizationOnly && s.BatchTimeoutMS > 0:
		return fmt.Errorf("batch_timeout_ms: %v, but mode %s makes no batches, so it has no meaning: leave it out", s.BatchTimeoutMS, s.Mode)
	case s.Batch > s.DatasetSize:
		return fmt.Errorf("batch: %d, but dataset_size is %d: a request would hold pairs twice", s.Batch, s.DatasetSize)
	}
	return nil
}

// translate replaces policy and timeout, the names of version 0.1, by
// batch_timeout_ms. It returns a warning if it did.
func translate(values map[string][]string) (warning string, err error) {
	policies, timeouts := values["policy"], values["timeout"]
	if policies == nil && timeouts == nil {
		return "", nil
	}
	if _, both := values["batch_timeout_ms"]; both {
		return "", errors.New("batch_timeout_ms replaces policy and timeout: leave these out")
	}
	delete(values, "policy")
	delete(values, "timeout")
	var waits []string
	for _, value := range timeouts {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return "", fmt.Errorf("timeout: %q is not a time such as 200ms", value)
		}
		waits = append(waits, strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64))
	}
	waited := false
	var all []string
	for _, policy := range policies {
		switch policy {
		case "continuous":
			all = append(all, "0")
		case "window":
			waited = true
			all = append(all, waits...)
		default:
			return "", fmt.Errorf("policy: %q is not one of continuous, window", policy)
		}
	}
	switch {
	case waited && len(waits) == 0:
		return "", errors.New("policy window needs a timeout: use batch_timeout_ms, such as batch_timeout_ms: 200")
	case !waited && len(waits) > 1:
		return "", fmt.Errorf("timeout: %d values, but only policy window waits: use batch_timeout_ms", len(waits))
	}
	if len(all) == 0 {
		all = []string{"0"}
	}
	values["batch_timeout_ms"] = all
	return "policy and timeout are deprecated: use batch_timeout_ms: " + strings.Join(all, ", "), nil
}
