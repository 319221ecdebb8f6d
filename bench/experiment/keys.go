package experiment

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Key is one line of an experiment.
type Key struct {
	Name  string
	Usage string // of the flag with the same name; "" for a key without a flag of its own
	Def   string // "" if the engine has the default, or if none is needed
	Sweep bool   // a list is allowed
	set   func(s *Settings, value string) error
}

// Flag returns the name of the key's flag.
func (k Key) Flag() string { return strings.ReplaceAll(k.Name, "_", "-") }

// Keys lists all keys except name and description, in the order of the help.
// Points are made in this order too: the last key changes fastest.
var Keys = []Key{
	{"model", "", "", false, text(func(s *Settings) *string { return &s.Model })},
	{"adapter", "", "", false, text(func(s *Settings) *string { return &s.Adapter })},
	{"device", "", "auto", true, oneOf(func(s *Settings) *string { return &s.Device }, "auto", "gpu", "cpu")},
	{"dtype", "", "auto", true, oneOf(func(s *Settings) *string { return &s.DType }, "auto", "float32", "float16", "bfloat16", "int8", "int8w", "int4w")},
	{"max_length", "", "", true, whole(func(s *Settings) *int { return &s.MaxLength }, 3)},
	{"dataset", "`FILE` of pairs to score: .tsv, .jsonl (also .gz) or .parquet, or builtin", "builtin", false, text(func(s *Settings) *string { return &s.Dataset })},
	{"dataset_size", "max pairs of the dataset, the first `N`", "50000", false, whole(func(s *Settings) *int { return &s.DatasetSize }, 1)},
	{"mode", "what to measure, `MODE`: full, tokenization-only, inference-only", Full, false, oneOf(func(s *Settings) *string { return &s.Mode }, Full, TokenizationOnly, InferenceOnly)},
	{"policy", "deprecated: use --batch-timeout-ms", "", true, nil},
	{"max_batch", "", "", true, whole(func(s *Settings) *int { return &s.MaxBatch }, 1)},
	{"max_batch_tokens", "", "", true, whole(func(s *Settings) *int { return &s.MaxBatchTokens }, 1)},
	{"batch_timeout_ms", "max time that a batch waits for more pairs, `MILLISECONDS`; 0 to wait only for the device", "0", true, number(func(s *Settings) *float64 { return &s.BatchTimeoutMS }, 0, "a number of milliseconds from 0 to a million")},
	{"timeout", "deprecated: use --batch-timeout-ms", "", true, nil},
	{"length_aware", "batches of pairs of similar lengths, `BOOL`: true, false", "true", true, truth(func(s *Settings) *bool { return &s.LengthAware })},
	{"threads", "", "", true, whole(func(s *Settings) *int { return &s.Threads }, 1)},
	{"tokenizer_workers", "number `N` of tokenizer workers", "", true, whole(func(s *Settings) *int { return &s.TokenizerWorkers }, 1)},
	{"batch", "pairs per request, `N`", "32", true, whole(func(s *Settings) *int { return &s.Batch }, 1)},
	{"concurrency", "number `N` of concurrent requests (closed loop)", "1", true, whole(func(s *Settings) *int { return &s.Concurrency }, 1)},
	{"rate", "mean requests per second `N` at random times (open loop, Poisson)", "", true, number(func(s *Settings) *float64 { return &s.Rate }, math.SmallestNonzeroFloat64, "a number above 0, up to a million")},
	{"requests", "number `N` of requests per run", "100", false, whole(func(s *Settings) *int { return &s.Requests }, 1)},
	{"duration", "length `TIME` of a run, instead of a number of requests", "", false, duration(func(s *Settings) *Time { return &s.Duration })},
	{"warmup", "number `N` of requests before the runs that are not measured", "5", false, whole(func(s *Settings) *int { return &s.Warmup }, 0)},
	{"runs", "number `N` of runs per point", "1", false, whole(func(s *Settings) *int { return &s.Runs }, 1)},
	{"seed", "`SEED` of the arrival times of --rate", "1", false, seed},
}

// Deprecated reports whether translate replaces the key.
func (k Key) Deprecated() bool { return k.set == nil && k.Usage != "" }

func text(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		if value == "" {
			return fmt.Errorf("it is empty")
		}
		*field(s) = value
		return nil
	}
}

func oneOf(field func(*Settings) *string, values ...string) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		if !slices.Contains(values, value) {
			return fmt.Errorf("%q is not one of %s", value, strings.Join(values, ", "))
		}
		*field(s) = value
		return nil
	}
}

func whole(field func(*Settings) *int, least int) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < least || n > math.MaxInt32 {
			return fmt.Errorf("%q is not a whole number from %d on", value, least)
		}
		*field(s) = n
		return nil
	}
}

// number reads a number from least to a million, which expected describes.
func number(field func(*Settings) *float64, least float64, expected string) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || !(x >= least) || x > 1e6 {
			return fmt.Errorf("%q is not %s", value, expected)
		}
		*field(s) = x
		return nil
	}
}

func duration(field func(*Settings) *Time) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a time such as 200ms or 30s", value)
		}
		*field(s) = Time(d)
		return nil
	}
}

func truth(field func(*Settings) *bool) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		switch value {
		case "true", "on":
			*field(s) = true
		case "false", "off":
			*field(s) = false
		default:
			return fmt.Errorf("%q is neither true nor false", value)
		}
		return nil
	}
}

func seed(s *Settings, value string) (err error) {
	if s.Seed, err = strconv.ParseUint(value, 10, 64); err != nil {
		return fmt.Errorf("%q is not a whole number", value)
	}
	return nil
}
