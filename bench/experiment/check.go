package experiment

import (
	"fmt"
	"slices"
)

// checkKeys refuses keys that cannot stand together, and lists that would
// measure the same again and again.
func checkKeys(values map[string][]string) error {
	for _, pair := range []struct{ a, b, why string }{
		{"requests", "duration", "either ends a run"},
		{"concurrency", "rate", "concurrency keeps so many requests under way, rate sends them on a schedule"},
	} {
		_, a := values[pair.a]
		_, b := values[pair.b]
		if a && b {
			return fmt.Errorf("%s and %s are both given, but %s: leave one out", pair.a, pair.b, pair.why)
		}
	}
	if list := values["timeout"]; len(list) > 1 && !contains(values["policy"], Window) {
		return fmt.Errorf("timeout: %d values, but only policy window waits: add window to policy", len(list))
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

// unused are the keys without a meaning in a mode.
var unused = map[string][]string{
	TokenizationOnly: {"device", "dtype", "policy", "max_batch", "max_batch_tokens", "timeout", "length_aware", "threads"},
	InferenceOnly:    {"tokenizer_workers"},
}

// OfServer checks that the experiment can be measured of a server, and takes out
// the settings of an engine: a server has its own.
func (e *Experiment) OfServer(takesModel bool) error {
	kept := []string{"dataset", "dataset_size", "batch", "concurrency", "rate", "requests", "duration", "warmup", "runs", "seed"}
	for _, key := range e.Swept {
		if !slices.Contains(kept, key) {
			return fmt.Errorf("%s: several values, but a server has one of its own: leave the key out", key)
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

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s {
			return true
		}
	}
	return false
}

// check refuses settings that contradict each other.
func (s Settings) check() error {
	switch {
	case s.Policy == Window && s.Timeout == 0:
		return fmt.Errorf("policy window needs a timeout, such as timeout: 200ms")
	case s.Device == "gpu" && s.Threads > 0:
		return fmt.Errorf("threads: %d, but device gpu computes on one thread", s.Threads)
	case s.Mode == TokenizationOnly && s.Policy == Window:
		return fmt.Errorf("mode tokenization-only makes no batches, so policy window has no meaning")
	case s.Batch > s.DatasetSize:
		return fmt.Errorf("batch: %d, but dataset_size is %d: a request would hold pairs twice", s.Batch, s.DatasetSize)
	}
	return nil
}
