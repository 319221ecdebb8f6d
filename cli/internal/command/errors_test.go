package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestReport(t *testing.T) {
	live, dead := t.Context(), cancelled()
	for _, test := range []struct {
		name   string
		ctx    context.Context
		err    error
		status int
		text   string
	}{
		{"success", live, nil, ExitOK, ""},
		{"failure", live, errors.New("out of tea"), ExitFailure, "mlxrank: out of tea\n"},
		{"usage", live, fmt.Errorf("a: %w", Usagef("no %s", "b")), ExitUsage, "mlxrank: a: no b\n"},
		{"reported", live, ErrReported, ExitFailure, ""},
		{"interrupted", dead, fmt.Errorf("score: %w", context.Canceled), ExitInterrupted, "mlxrank: interrupted\n"},
		{"failure while interrupted", dead, errors.New("out of tea"), ExitFailure, "mlxrank: out of tea\n"},
		{"cancelled by somebody else", live, context.Canceled, ExitFailure, "mlxrank: context canceled\n"},
		{"broken pipe", live, fmt.Errorf("write: %w", syscall.EPIPE), ExitBrokenPipe, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b bytes.Buffer
			if got := Report(test.ctx, &b, test.err); got != test.status {
				t.Errorf("status %d, want %d", got, test.status)
			}
			if b.String() != test.text {
				t.Errorf("printed %q, want %q", b.String(), test.text)
			}
		})
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
