// Package mlx binds libmlxrank, the C shim over Apple's MLX in ../native. It runs
// a cross-encoder's forward pass on token ids; package engine adds text. Package
// mlx needs no cgo.
//
// # Threading contract (read before calling from a new goroutine)
//
//   - Call any method from any goroutine. The package moves the call to the right
//     OS thread and waits for it.
//   - MLX binds a stream, and every array not yet evaluated on it, to the OS thread
//     that made it. Therefore each [Library] and each [Session] has a goroutine
//     locked to its own OS thread. Session.Submit and Session.Close run there, one
//     at a time. Never call libmlxrank in another way.
//   - Session.Collect, Session.Profile, Session.WriteActivations and the methods of
//     [Model] but Open run on the calling goroutine. Collect one ticket while another goroutine submits the
//     next batch.
//   - Workers, the threads that compute, belong to libmlxrank and never run Go code.
//   - Close a session after its last Collect has returned. Methods of a closed
//     session return [ErrClosed] or [ErrInvalid].
//   - Never unload libmlxrank: MLX's threads live until the process ends. [Load]
//     opens it, at its first call and not when the package is initialised.
//
// # Versions
//
// The API may change with a minor version; CHANGELOG.md lists the changes. Load
// checks that libmlxrank has the ABI number of this package.
package mlx
