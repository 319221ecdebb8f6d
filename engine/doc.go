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
// batch's requests get the cause and the session is reopened, once; see
// [Engine.Healthy].
//
// A program that uses this package is linked with a tokenizer library and loads
// libmlxrank; the command "mlxrank env" prints the environment for both, and docs/user/go.md
// shows a whole program and how to ship one. It needs cgo.
//
// The package never writes to the standard streams and never logs a text. Its
// log events are described by [EventsSchema].
//
// # Compatibility
//
// Versions are semantic: what breaks programs comes with a major version, before
// v1.0.0 with a minor one, and CHANGELOG.md says how to follow. These are no
// breaks: more fields in structs, so that composite literals are to name theirs
// and structs are not to be compared; more constants; other texts of errors,
// which errors.Is tells apart by the variables below. Scores may differ in the
// last bits between versions and devices; docs/user/go.md has the rest.
package engine

// Version is the release that this source is, or will be.
const Version = "0.1.0"
