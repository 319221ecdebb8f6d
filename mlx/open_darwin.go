package mlx

import "github.com/ebitengine/purego"

// LibraryFile is the file name of libmlxrank.
const LibraryFile = "libmlxrank.dylib"

// openShared opens a shared library.
func openShared(file string) (uintptr, error) {
	return purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
}
