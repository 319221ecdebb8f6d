//go:build !linux

package system

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Processor describes what of the processor and the system the bits of a result can
// depend on. macOS's own libraries multiply matrices, and come with the system.
func Processor() string {
	text := runtime.GOARCH
	for _, name := range []string{"machdep.cpu.brand_string", "kern.osversion"} {
		if value, err := unix.Sysctl(name); err == nil {
			text += ", " + value
		}
	}
	return text
}

// MappedLibraries returns nil: macOS's libraries are part of the system.
func MappedLibraries() []string { return nil }
