package command

import (
	"strings"
	"testing"
)

func FuzzSettings(f *testing.F) {
	known := append(sharedFlags(), "listen", "cors-origin")
	f.Add([]byte("model: builtin\nmax-length: 128\n"))
	f.Add([]byte("{device: cpu, dtype: [a]}"))
	f.Add([]byte("model: &a\n  b: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := parseSettings(data, known)
		for name := range values {
			if err == nil && !strings.Contains(strings.Join(known, " "), name) {
				t.Errorf("unknown key %q", name)
			}
		}
	})
}
