// Package engine scores query–document pairs with a cross-encoder on MLX.
//
// An [Engine] is safe for any number of goroutines. Tokenizer workers make tokens
// of a request's pairs, a queue collects the pairs, and batches of them go to the
// device. Two batches are in flight: while one executes, the next is tokenised,
// planned and submitted. A request may be split over several batches, and a batch
// may serve several requests. The planner groups pairs of similar length, by a cost
// model that is measured on the device. The queue is fair over requests, and the
// pair that has waited longest is always in the next batch. Scores are returned in
// the order of the pairs, with the time of each stage.
//
// The engine admits a whole request or refuses it at once: with [ErrOverloaded] if
// there is no room now, with [ErrTooLarge] if there never is. When a context ends,
// its call returns at once; waiting pairs are dropped, and a batch that is already
// executing finishes. After a failure of the device, the requests of the batch get
// the error and the engine reopens the session once; see [Engine.Healthy].
//
// A program that uses this package is linked with a tokenizer library and loads
// libmlxrank. The command "mlxrank env" prints the environment for both, and
// docs/user/go.md shows a whole program and how to ship one. The package needs cgo.
//
// The package never writes to the standard streams and never logs a text.
// [EventsSchema] describes its log events.
//
// # Compatibility
//
// Versions are semantic. A change that breaks programs comes with a major version,
// before v1.0.0 with a minor one, and CHANGELOG.md says how to follow. Any version
// may add fields to structs, so name the fields in composite literals, and do not
// compare structs. Any version may add constants and change texts of errors, so use
// errors.Is with the variables below. Scores may differ in the last bits between
// versions and devices. docs/user/go.md has the rest.
package engine

// Version is the release that this source is, or will be.
const Version = "0.1.0"
