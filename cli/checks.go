package cli

import (
	"fmt"
	"io"
	"strings"
)

// check is one thing doctor looked at.
type check struct {
	name   string
	text   string   // what was found, or what is wrong
	detail []string // further lines
	remedy string   // what to do; a check with a remedy has failed
}

func (c check) failed() bool { return c.remedy != "" }

// writeChecks prints the checks in columns.
func writeChecks(w io.Writer, checks []check) error {
	const indent = "                 "
	var b strings.Builder
	for _, c := range checks {
		state := "OK"
		if c.failed() {
			state = "FAIL"
		}
		fmt.Fprintf(&b, "%-6s%-11s%s\n", state, c.name, strings.ReplaceAll(c.text, "\n", "\n"+indent))
		for _, line := range c.detail {
			b.WriteString(indent + line + "\n")
		}
		if c.failed() {
			b.WriteString(indent + "-> " + c.remedy + "\n")
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
