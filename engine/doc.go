// Package engine scores query–document pairs with a BERT cross-encoder on MLX.
//
// An [Engine] is safe for any number of goroutines. Requests go through
// tokenizer workers and a queue into batches, of which two are in flight: while
// one executes the next is tokenised, planned and submitted. A request may be
// split over batches and a batch may serve many requests. The planner puts pairs
// of like lengths together, by a cost model that is calibrated on the device;
// the queue is fair over requests, and the pair that has waited longest is
// always in the next batch. Scores come back in the order of the pairs, with
// the time of each stage.
//
// A request is taken in whole or refused at once: [ErrOverloaded] when there is
// no room now, [ErrTooLarge] when there never is. A context that ends frees its
// caller at once; pairs of it that wait are dropped, and what is already running
// on the device runs to its end behind it. After a failure of the device the
// batch's requests get the cause and the session is opened anew, once; see
// [Engine.Healthy].
//
// A program that uses this package is linked with a tokenizer library and loads
// libmlxrank; the command "mlxrank env" prints the environment for both, and docs/go.md
// shows a whole program and how to ship one. It needs cgo.
//
// The package never writes to the standard streams and never logs a text. Its
// log events are described by [EventsSchema].
//
// # Compatibility
//
// The module follows semantic versioning. Up to v1 a minor version may change
// this API, and CHANGELOG.md says how to follow it; a patch version only adds.
// What may always be added is fields of structs, so that composite literals are
// to name theirs, and constants. Errors are told apart by errors.Is and the
// variables below; their texts may change. Scores may differ between versions,
// devices and number formats in the last digits: those of float32 are within
// 1e-4 standard deviations of PyTorch's logits.
package engine
