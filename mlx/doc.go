// Package mlx binds libmlxrank, the C shim over Apple's MLX in ../native, and
// runs a cross-encoder's forward pass with it. It knows tensors and token ids,
// nothing of text.
//
// The library is found and opened by [Load], never at package initialisation,
// and is never unloaded: MLX cannot be. Every call into it is made on a
// goroutine locked to its own OS thread, one for the library and one for each
// [Session], because MLX ties what it does to the thread that does it. All
// methods may be called from any goroutine.
//
// This is the lower level of package engine, for programs that have token ids.
// It needs no cgo. Its API may change with a minor version, which CHANGELOG.md
// says. libmlxrank must be of the same release as the module: Load checks the
// number of its ABI.
package mlx
