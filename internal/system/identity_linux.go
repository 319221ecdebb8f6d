package system

import (
	"os"
	"slices"
	"strings"
)

// Processor describes what of the processor the bits of a result can depend on: its
// model and instructions.
func Processor() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(data), "\n\n")
	var kept []string
	for line := range strings.Lines(first) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU implementer", "CPU part", "CPU variant":
			kept = append(kept, strings.TrimSpace(value))
		}
	}
	return strings.Join(kept, ", ")
}

// MappedLibraries lists the files of the shared libraries of this process, without those
// that name lookups load.
func MappedLibraries() []string {
	data, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil
	}
	var files []string
	for line := range strings.Lines(string(data)) {
		at := strings.IndexByte(line, '/')
		if at < 0 || !strings.Contains(line[at:], ".so") || strings.Contains(line[at:], "/libnss") || strings.Contains(line[at:], "/libresolv") {
			continue
		}
		files = append(files, strings.TrimSpace(line[at:]))
	}
	slices.Sort(files)
	return slices.Compact(files)
}
