package model

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestModelRemoveConfirms answers the question that remove asks on a terminal.
func TestModelRemoveConfirms(t *testing.T) {
	_, dir := clitest.StartHub(t)
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	for _, test := range []struct {
		answer string
		status int
	}{
		{"n\n", command.ExitFailure}, {"\n", command.ExitFailure}, {"yess\n", command.ExitFailure}, {"\x04", command.ExitFailure}, {"Y\n", command.ExitOK},
	} {
		control, terminal := clitest.OpenTerminal(t, 80)
		if _, err := control.WriteString(test.answer); err != nil {
			t.Fatal(err)
		}
		var out, errOut bytes.Buffer
		status := runProgram(t.Context(), []string{"mlxrank", "model", "remove", clitest.HubModel}, command.Streams{In: terminal, Out: &out, Err: &errOut})
		if err := errors.Join(control.Close(), terminal.Close()); err != nil {
			t.Error(err)
		}
		question := "remove org/name at commit "
		if status != test.status || !strings.HasPrefix(errOut.String(), question) || !strings.Contains(errOut.String(), "kB? [y/N] ") {
			t.Errorf("%q: status %d, %q", test.answer, status, errOut.String())
		}
		_, err := os.Stat(dir)
		if gone := errors.Is(err, os.ErrNotExist); gone != (test.status == command.ExitOK) || strings.HasPrefix(out.String(), "removed ") != gone {
			t.Errorf("%q: gone is %v, %q", test.answer, gone, out.String())
		}
	}
}
