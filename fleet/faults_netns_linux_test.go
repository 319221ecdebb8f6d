package fleet

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// insideVariable marks a test that runs in its own network namespace.
const insideVariable = "MLXRANK_FLEET_TEST_INSIDE"

// TestNetworkCut has the server and two workers in network namespaces of their own. It
// cuts the network for 30 s: the link of a worker goes down, or a bridge drops
// everything, which neither side sees.
func TestNetworkCut(t *testing.T) {
	if !isLong() {
		t.Skip("takes minutes: MLXRANK_TEST_LONG=1 runs it, and TestSilentNetwork a short form")
	}
	if os.Getenv(insideVariable) == "" {
		command := exec.Command(os.Args[0], "-test.run=^TestNetworkCut$", "-test.v", "-test.timeout=20m")
		command.Env = append(os.Environ(), insideVariable+"=1")
		inNamespaces(syscall.CLONE_NEWNET)(command)
		output, err := command.CombinedOutput()
		if err != nil || !bytes.Contains(output, []byte("--- PASS: TestNetworkCut")) {
			t.Fatalf("%v\n%s", err, output)
		}
		t.Logf("%s", output)
		return
	}
	ip(t, "link set lo up")
	ip(t, "link add name br0 type bridge")
	ip(t, "addr add 10.77.0.1/24 dev br0")
	ip(t, "link set br0 up")
	f := newProcessFleet(t, role{Listen: "10.77.0.1:4222"}, nil)
	for i := range 2 {
		p := f.addWorker(role{Delay: 10 * time.Millisecond, Patient: true}, func(command *exec.Cmd) {
			command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		})
		pid := p.command.Process.Pid
		ip(t, fmt.Sprintf("link add name v%d type veth peer name w%d", i, i))
		ip(t, fmt.Sprintf("link set w%d netns %d", i, pid))
		ip(t, fmt.Sprintf("link set v%d master br0 up", i))
		for _, line := range []string{fmt.Sprintf("addr add 10.77.0.%d/24 dev w%d", i+2, i), fmt.Sprintf("link set w%d up", i), "link set lo up"} {
			run(t, "nsenter", append([]string{"-t", fmt.Sprint(pid), "-n", "ip"}, strings.Fields(line)...)...)
		}
	}
	f.submit(400, Job{AckWait: 5 * time.Second})
	client, job := f.client()
	for _, cut := range []struct{ down, up string }{
		{"link set v0 down", "link set v0 up"},
		{"link set v1 nomaster", "link set v1 master br0"},
		{"link set br0 down", "link set br0 up"}, // both workers
	} {
		done := len(f.scoredParts())
		f.waitForScored(done + 10)
		ip(t, cut.down)
		for range 6 {
			time.Sleep(5 * time.Second)
			f.checkSums(client, job)
		}
		t.Logf("%s for 30 s: %d parts were scored meanwhile", cut.down, len(f.scoredParts())-done-10)
		if f.isComplete() {
			t.Fatal("the job was complete before the network was healed")
		}
		ip(t, cut.up)
	}
	healed := time.Now()
	next := len(f.scoredParts()) + 1
	f.waitForScored(next)
	t.Logf("the first part was scored %v after the network was healed", time.Since(healed).Round(time.Second))
	f.check()
}

func ip(t testing.TB, line string) {
	t.Helper()
	run(t, "ip", strings.Fields(line)...)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, output)
	}
}
