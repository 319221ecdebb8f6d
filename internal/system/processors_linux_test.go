package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
)

func TestProcessors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		affinity int
		quota    float64
		want     int
	}{{8, 0, 8}, {8, 1, 1}, {8, 0.2, 1}, {8, 1.4, 1}, {8, 1.6, 2}, {2, 4, 2}, {8, 3, 3}} {
		if got := processors(test.affinity, test.quota); got != test.want {
			t.Errorf("processors(%d, %g) = %d, want %d", test.affinity, test.quota, got, test.want)
		}
	}
	if n := Processors(); n < 1 {
		t.Errorf("Processors() = %d", n)
	}
}

// The files come from real systems; only the mount points differ.
func TestQuota(t *testing.T) {
	t.Parallel()
	const v2 = "0::/user.slice/job.scope\n"
	for name, test := range map[string]struct {
		cgroup, mount string // of /proc/PID/cgroup; of /proc/PID/mountinfo, from the root field
		files         map[string]string
		want          float64
	}{
		"version 2":       {v2, "/ /sys rw - cgroup2 cgroup2 rw", map[string]string{"sys/user.slice/job.scope/cpu.max": "150000 100000\n"}, 1.5},
		"version 2, none": {v2, "/ /sys rw - cgroup2 cgroup2 rw", map[string]string{"sys/user.slice/job.scope/cpu.max": "max 100000\n"}, 0},
		"version 2, parent group": {v2, "/ /sys rw - cgroup2 cgroup2 rw", map[string]string{
			"sys/user.slice/job.scope/cpu.max": "max 100000\n", "sys/user.slice/cpu.max": "50000 100000\n"}, 0.5},
		"version 2, in a namespace":        {"0::/\n", "/ /sys rw - cgroup2 cgroup2 rw", map[string]string{"sys/cpu.max": "200000 100000\n"}, 2},
		"version 2, mounted at a subgroup": {v2, "/user.slice /sys rw - cgroup2 cgroup2 rw", map[string]string{"sys/job.scope/cpu.max": "300000 100000\n"}, 3},
		"version 2, outside":               {"0::/../other\n", "/ /sys rw - cgroup2 cgroup2 rw", map[string]string{"sys/cpu.max": "100000 100000\n", "other/cpu.max": "1 1000\n"}, 1},
		"version 1": {"5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n", "/docker/abc /sys rw - cgroup cgroup rw,cpu,cpuacct", map[string]string{
			"sys/cpu.cfs_quota_us": "100000\n", "sys/cpu.cfs_period_us": "50000\n"}, 2},
		"version 1, none": {"5:cpu:/\n", "/ /sys rw - cgroup cgroup rw,cpu", map[string]string{
			"sys/cpu.cfs_quota_us": "-1\n", "sys/cpu.cfs_period_us": "100000\n"}, 0},
		"version 1, another controller": {"5:cpu:/\n4:memory:/\n", "/ /sys rw - cgroup cgroup rw,memory", map[string]string{
			"sys/cpu.cfs_quota_us": "100000\n", "sys/cpu.cfs_period_us": "100000\n"}, 0},
		"damaged":  {v2, "/ /sys rw - cgroup2 cgroup2 rw", map[string]string{"sys/cpu.max": "100000 0\n", "sys/user.slice/cpu.max": "NaN\n"}, 0},
		"no files": {v2, "/ /sys rw - cgroup2 cgroup2 rw", nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "proc/7/cgroup", test.cgroup)
			write(t, dir, "proc/7/mountinfo", "29 23 0:26 "+strings.Replace(test.mount, "/sys", dir+"/sys", 1)+"\n")
			write(t, dir, "proc/7/stat", "")
			for file, text := range test.files {
				write(t, dir, file, text)
			}
			fs, err := procfs.NewFS(filepath.Join(dir, "proc"))
			if err != nil {
				t.Fatal(err)
			}
			process, err := fs.Proc(7)
			if err != nil {
				t.Fatal(err)
			}
			if got := processQuota(process); got != test.want {
				t.Errorf("got %g processors, want %g", got, test.want)
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
