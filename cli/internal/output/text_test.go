package output

import (
	"testing"
)

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 90_868_376: "90.9 MB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1_340_000_000: "1.3 GB", 5e12: "5.0 TB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
