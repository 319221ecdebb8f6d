package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// skewVariable is by how many seconds the clock of a process is wrong.
const skewVariable = "MLXRANK_FLEET_TEST_SKEW"

// TestClockSkew has workers whose clocks are an hour early and late, and a submitter
// whose clock is a day early. Go programs read the clock without the C library, so the
// test program is built with another time.Now.
func TestClockSkew(t *testing.T) {
	if !isLong() {
		t.Skip("builds the test program with another clock: MLXRANK_TEST_LONG=1 runs it")
	}
	program := buildSkewed(t)
	skewed := func(by time.Duration) func(*exec.Cmd) {
		return func(command *exec.Cmd) {
			command.Path = program
			command.Env = append(command.Env, fmt.Sprintf("%s=%d", skewVariable, int(by.Seconds())))
		}
	}
	f := newProcessFleet(t, role{}, nil)
	skews := []time.Duration{time.Hour, -time.Hour, 0}
	for _, skew := range skews {
		f.addWorker(role{Delay: 5 * time.Millisecond}, skewed(skew))
	}
	f.submitBy(200, Job{AckWait: time.Second, MaxDeliver: 100}, skewed(24*time.Hour))
	f.submitter.waitForLine("received 3")
	for i, p := range append(f.workers, f.submitter) {
		var clock int64
		p.waitForLine("clock ")
		if _, err := fmt.Sscanf(p.output()[0], "clock %d", &clock); err != nil {
			t.Fatal(err)
		}
		found := time.Until(time.Unix(clock, 0)).Round(10 * time.Minute)
		if want := append(skews, 24*time.Hour)[i]; found != want {
			t.Errorf("the clock of %s is wrong by %v, expected %v", p.role.Name, found, want)
		}
	}
	for range 5 {
		time.Sleep(time.Duration(f.seed.IntN(500)) * time.Millisecond)
		victim := f.workers[f.seed.IntN(len(f.workers))]
		victim.kill()
		victim.start()
	}
	f.check()
	client, job := f.client()
	s, err := client.Status(testContext(t), job.ID)
	if err != nil || len(s.Workers) < len(skews) || time.Until(s.ServerNow).Abs() > time.Hour/2 {
		t.Errorf("status: %+v (%v), expected all workers, and the server's clock", s, err)
	}
}

// buildSkewed builds the test program with a time.Now that skewVariable changes.
func buildSkewed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(source), now) {
		t.Fatalf("%s of %s has another Now: change this test", path, runtime.Version())
	}
	changed := strings.Replace(string(source), now, now+"\tsec += testSkew\n", 1)
	changed = strings.Replace(changed, "\nimport (\n", "\nimport (\n\t\"syscall\"\n", 1) + `
var testSkew = func() (seconds int64) {
	text, _ := syscall.Getenv("` + skewVariable + `")
	negative := len(text) > 0 && text[0] == '-'
	for _, c := range text {
		if c >= '0' && c <= '9' {
			seconds = 10*seconds + int64(c-'0')
		}
	}
	if negative {
		return -seconds
	}
	return seconds
}()
`
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o666); err != nil {
			t.Fatal(err)
		}
		return file
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: write("time.go", []byte(changed))}})
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "skewed.test")
	build := exec.Command("go", "test", "-c", "-overlay", write("overlay.json", overlay), "-o", program, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test program with another clock: %v\n%s", err, output)
	}
	return program
}
