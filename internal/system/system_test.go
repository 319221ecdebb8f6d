package system

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func readDump(t testing.TB) []byte {
	t.Helper()
	dump, err := os.ReadFile(filepath.Join("testdata", "ioaccelerator.plist"))
	if err != nil {
		t.Fatal(err)
	}
	return dump
}

func TestDeviceUtilization(t *testing.T) {
	t.Parallel()
	dump := readDump(t)
	entry := dump[bytes.Index(dump, []byte("\t<dict>")):bytes.LastIndex(dump, []byte("</array>"))]
	busier := bytes.Replace(entry, []byte("<integer>37</integer>"), []byte("<real>62.5</real>"), 1)
	for name, test := range map[string]struct {
		dump []byte
		want float64 // negative: absent
	}{
		"one GPU":      {dump, 37},
		"two GPUs":     {bytes.Replace(dump, entry, append(bytes.Clone(entry), busier...), 1), 62.5},
		"idle":         {bytes.Replace(dump, []byte("<integer>37<"), []byte("<integer>0<"), 1), 0},
		"another key":  {bytes.Replace(dump, []byte("Device Utilization %"), []byte("Other"), 1), -1},
		"a string":     {bytes.Replace(dump, []byte("<integer>37</integer>"), []byte("<string>37</string>"), 1), -1},
		"no entry":     {[]byte(`<plist version="1.0"><array/></plist>`), -1},
		"nothing":      {nil, -1},
		"no statistic": {[]byte(`<plist version="1.0"><array><dict/></array></plist>`), -1},
	} {
		got, err := deviceUtilization(test.dump)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want < 0 && got != nil:
			t.Errorf("%s: %v, want none", name, *got)
		case test.want >= 0 && (got == nil || *got != test.want):
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
	for _, bad := range []string{"ioreg: no such class", "<plist><array><dict>", `<plist version="1.0"><dict/></plist>`} {
		if got, err := deviceUtilization([]byte(bad)); err == nil {
			t.Errorf("%q gave %v, want an error", bad, got)
		}
	}
}

func FuzzDeviceUtilization(f *testing.F) {
	f.Add(readDump(f))
	f.Add([]byte(`<plist version="1.0"><array/></plist>`))
	f.Fuzz(func(t *testing.T, dump []byte) {
		if got, err := deviceUtilization(dump); err != nil && got != nil {
			t.Errorf("got %v and the error %v, want only one", *got, err)
		}
	})
}

func TestSample(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	sample := func() Sample {
		got, err := s.Sample(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		// A virtual Mac may report none.
		if pct := got.GPUUtilizationPct; pct != nil && (runtime.GOOS != "darwin" || *pct < 0 || *pct > 100) {
			t.Errorf("GPU utilisation %v on %s", *pct, runtime.GOOS)
		}
		if got.FootprintMB == nil || *got.FootprintMB < 1 {
			t.Fatalf("footprint %v", got.FootprintMB)
		}
		return got
	}
	before := sample()
	if before.CPUUsagePct != nil {
		t.Errorf("the first sample has CPU usage %v, want none: nothing precedes it", *before.CPUUsagePct)
	}
	held := bytes.Repeat([]byte{1}, 64<<20)
	for start := time.Now(); time.Since(start) < 300*time.Millisecond; {
		held[len(held)/2]++ // keeps the CPU busy
	}
	after := sample()
	if after.CPUUsagePct == nil || *after.CPUUsagePct < 5 || *after.CPUUsagePct > 100*float64(runtime.NumCPU()) {
		t.Errorf("CPU usage %v of a busy loop", after.CPUUsagePct)
	}
	if grown := *after.FootprintMB - *before.FootprintMB; grown < 50 {
		t.Errorf("footprint grew by %.1f MB over 64 MB", grown)
	}
	runtime.KeepAlive(held)
}

func TestSampleReportsErrors(t *testing.T) {
	t.Parallel()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	s.process.Pid = 1 << 30
	got, err := s.Sample(context.Background())
	if err == nil || !strings.Contains(err.Error(), "CPU time") || got.CPUUsagePct != nil {
		t.Errorf("without a process: %+v, %v", got, err)
	}
}
