// Package mlx binds libmlxrank, the C shim over Apple's MLX in ../native, and
// runs a cross-encoder's forward pass with it. It knows tensors and token ids,
// nothing of text.
//
// The library is found and opened by [Load], never at package initialisation,
// and is never unloaded: MLX cannot be. Every call into it is made on a
// goroutine locked to its own OS thread, one for the library and one for each
// [Session], because MLX ties what it does to the thread that does it. All
// methods may be called from any goroutine.
package mlx
