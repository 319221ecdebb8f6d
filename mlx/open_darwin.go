package mlx

import "github.com/ebitengine/purego"

// openShared opens a shared library.
func openShared(file string) (uintptr, error) {
	return purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
}
