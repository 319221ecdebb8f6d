package bench

import (
	"os"
	"path/filepath"
	"strings"
)

// powerSource returns "mains" or "battery", "" if it is unknown.
func powerSource() (string, error) {
	supplies, err := filepath.Glob("/sys/class/power_supply/*/online")
	if err != nil || len(supplies) == 0 {
		return "", err
	}
	for _, path := range supplies {
		online, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		if strings.TrimSpace(string(online)) == "1" {
			return "mains", nil
		}
	}
	return "battery", nil
}
