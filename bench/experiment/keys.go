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
	Usage string // of the flag of the same name; "" if it has none, or one elsewhere
	Def   string // "" if the engine has a default of its own, or none is needed
	Sweep bool   // it may be a list
	set   func(s *Settings, value string) error
}

// Flag is the key's name as a flag's.
func (k Key) Flag() string { return strings.ReplaceAll(k.Name, "_", "-") }

// Keys are all of them but name and description, in the order of their help.
// Points are made in this order too: the last key changes the fastest.
var Keys = []Key{
	{"model", "", "", false, text(func(s *Settings) *string { return &s.Model })},
	{"adapter", "", "", false, text(func(s *Settings) *string { return &s.Adapter })},
	{"device", "", "auto", true, oneOf(func(s *Settings) *string { return &s.Device }, "auto", "gpu", "cpu")},
	{"dtype", "", "auto", true, oneOf(func(s *Settings) *string { return &s.DType }, "auto", "float32", "float16", "bfloat16")},
	{"max_length", "", "", true, whole(func(s *Settings) *int { return &s.MaxLength }, 3)},
	{"dataset", "score the pairs of `FILE`: .tsv, .jsonl (also .gz) or .parquet, or builtin", "builtin", false, text(func(s *Settings) *string { return &s.Dataset })},
	{"dataset_size", "take the first `N` pairs of it", "50000", false, whole(func(s *Settings) *int { return &s.DatasetSize }, 1)},
	{"mode", "measure `MODE`: full, tokenization-only, inference-only", Full, false, oneOf(func(s *Settings) *string { return &s.Mode }, Full, TokenizationOnly, InferenceOnly)},
	{"policy", "make batches by `POLICY`: continuous, window", Continuous, true, oneOf(func(s *Settings) *string { return &s.Policy }, Continuous, Window)},
	{"max_batch", "", "", true, whole(func(s *Settings) *int { return &s.MaxBatch }, 1)},
	{"max_batch_tokens", "", "", true, whole(func(s *Settings) *int { return &s.MaxBatchTokens }, 1)},
	{"timeout", "let policy window wait `TIME` for a batch to fill", "", true, duration(func(s *Settings) *Time { return &s.Timeout })},
	{"length_aware", "make batches of like lengths if `BOOL`: true, false", "true", true, truth(func(s *Settings) *bool { return &s.LengthAware })},
	{"threads", "", "", true, whole(func(s *Settings) *int { return &s.Threads }, 1)},
	{"tokenizer_workers", "use `N` tokenizer workers", "", true, whole(func(s *Settings) *int { return &s.TokenizerWorkers }, 1)},
	{"batch", "put `N` pairs in a request", "32", true, whole(func(s *Settings) *int { return &s.Batch }, 1)},
	{"concurrency", "keep `N` requests under way", "1", true, whole(func(s *Settings) *int { return &s.Concurrency }, 1)},
	{"rate", "send `N` requests a second on average, at random (Poisson)", "", true, number(func(s *Settings) *float64 { return &s.Rate })},
	{"requests", "send `N` requests", "100", false, whole(func(s *Settings) *int { return &s.Requests }, 1)},
	{"duration", "send requests for `TIME`", "", false, duration(func(s *Settings) *Time { return &s.Duration })},
	{"warmup", "send `N` requests before, which are in no figure", "5", false, whole(func(s *Settings) *int { return &s.Warmup }, 0)},
	{"runs", "measure each point `N` times", "1", false, whole(func(s *Settings) *int { return &s.Runs }, 1)},
	{"seed", "take the arrivals of --rate from `SEED`", "1", false, seed},
}

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

func number(field func(*Settings) *float64) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || !(x > 0) || x > 1e6 {
			return fmt.Errorf("%q is not a number above 0, up to a million", value)
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
