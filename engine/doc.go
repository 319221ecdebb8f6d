// Package engine scores query–document pairs with a BERT cross-encoder: it
// tokenises, batches by length, runs the batches on MLX and puts the scores
// back in the order of the pairs.
//
// An [Engine] is safe for any number of goroutines. A context that ends frees
// its caller at once; what is already running on the device runs to its end
// behind it. The package never writes to the standard streams and never logs a
// text.
package engine
