package mlx

import (
	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// LibraryFile is the file name of libmlxrank.
const LibraryFile = "libmlxrank.dylib"

// openShared opens a shared library.
func openShared(file string) (uintptr, error) {
	return purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// thisMachine returns the facts that the kernel gives; what it does not give is "".
func thisMachine() machine {
	var m machine
	if chip, err := unix.Sysctl("machdep.cpu.brand_string"); err == nil {
		m.Chip = chip
	}
	if release, err := unix.Sysctl("kern.osrelease"); err == nil {
		m.Darwin = release
	}
	return m
}
