package bench

import (
	"context"
	"os/exec"
	"strings"
	"time"
)

// powerSource returns "mains" or "battery", "" if it is unknown.
func powerSource() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/bin/pmset", "-g", "batt").Output()
	switch {
	case err != nil:
		return "", err
	case strings.Contains(string(out), "'AC Power'"):
		return "mains", nil
	case strings.Contains(string(out), "'Battery Power'"):
		return "battery", nil
	}
	return "", nil
}
