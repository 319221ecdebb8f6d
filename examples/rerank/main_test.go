package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

const passages = `A mail reader for the terminal.

Colorstring is a Go library for outputting colored strings to a console using a simple inline syntax to specify the colors.
A command line calculator with arbitrary precision.`

func TestRun(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := run(t.Context(), strings.NewReader(passages), &out, "builtin", "Golang library for colorizing strings for terminal output", 2); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	// PyTorch's score of the best pair is 0.9988; half precision on a GPU may differ
	// in the third digit.
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "0.99") || !strings.Contains(lines[0], "\tColorstring is a Go library") || lines[2] != "" {
		t.Errorf("got %q", lines)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	var many strings.Builder // distinct, since identical pairs execute once
	for i := range 40_000 {
		fmt.Fprintln(&many, i, strings.Repeat("passage ", 65))
	}
	for _, test := range []struct {
		name     string
		ctx      context.Context
		in       string
		model    string
		want     error
		contains string
	}{
		{"no passages", t.Context(), " \n\n", "builtin", nil, "no passages"},
		{"no such model", t.Context(), passages, "./none", nil, "./none"},
		{"interrupted", ended, passages, "builtin", context.Canceled, ""},
		{"too many", t.Context(), many.String(), "builtin", engine.ErrTooLarge, "passages for one call: 40000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			err := run(test.ctx, strings.NewReader(test.in), &out, test.model, "query", 0)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.contains) || out.Len() > 0 {
				t.Errorf("got %v and %d bytes, want %v with %q", err, out.Len(), test.want, test.contains)
			}
		})
	}
}
