package system

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// cpuQuota returns the smallest CPU quota of this process's control groups, in
// processors, or 0 if none is set or /proc or the groups' files cannot be read.
func cpuQuota() float64 {
	fs, err := procfs.NewFS(procfs.DefaultMountPoint)
	if err != nil {
		return 0
	}
	self, err := fs.Self()
	if err != nil {
		return 0
	}
	return processQuota(self)
}

func processQuota(process procfs.Proc) float64 {
	groups, err := process.Cgroups()
	if err != nil {
		return 0
	}
	mounts, err := process.MountInfo()
	if err != nil {
		return 0
	}
	quota := 0.0
	for _, group := range groups {
		for _, mount := range mounts {
			if !holds(mount, group) {
				continue
			}
			for _, dir := range groupFolders(mount, group) {
				if q := readQuota(dir); q > 0 && (quota == 0 || q < quota) {
					quota = q
				}
			}
		}
	}
	return quota
}

// holds reports whether the mount shows the group's hierarchy, and that
// hierarchy can limit the CPU: version 2, or version 1 with the controller cpu.
func holds(mount *procfs.MountInfo, group procfs.Cgroup) bool {
	if group.HierarchyID == 0 {
		return mount.FSType == "cgroup2"
	}
	_, cpu := mount.SuperOptions["cpu"]
	return mount.FSType == "cgroup" && cpu && slices.Contains(group.Controllers, "cpu")
}

// groupFolders returns the group's folder and those above it, up to the mount
// point: each of them can have a quota.
func groupFolders(mount *procfs.MountInfo, group procfs.Cgroup) []string {
	path, under := strings.CutPrefix(group.Path, strings.TrimSuffix(mount.Root, "/"))
	if !under { // the mount shows another part of the hierarchy
		path = ""
	}
	folders := []string{mount.MountPoint}
	for _, name := range strings.Split(strings.Trim(path, "/"), "/") {
		if name == ".." { // a group outside of this process's namespace
			return folders[:1]
		}
		folders = append(folders, filepath.Join(folders[len(folders)-1], name))
	}
	return folders
}

// readQuota reads the quota of one group, in processors; 0 means no quota.
func readQuota(dir string) float64 {
	fields := append(readFields(dir, "cpu.max"), readFields(dir, "cpu.cfs_quota_us")...)
	if len(fields) == 1 {
		fields = append(fields, readFields(dir, "cpu.cfs_period_us")...)
	}
	if len(fields) != 2 {
		return 0
	}
	quota, err := strconv.ParseFloat(fields[0], 64) // without a quota, version 2 has "max" and version 1 has -1
	period, periodErr := strconv.ParseFloat(fields[1], 64)
	if err != nil || periodErr != nil || quota <= 0 || period <= 0 {
		return 0
	}
	return quota / period
}

func readFields(dir, name string) []string {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}
