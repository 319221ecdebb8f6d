package engine

import "testing"

func TestIsEmpty(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{"": true, " \t\r\n\u00a0\u3000": true, "a": false, " .": false, "\x00": false} {
		if got := IsEmpty(text); got != want {
			t.Errorf("IsEmpty(%q) = %v, want %v", text, got, want)
		}
	}
}
