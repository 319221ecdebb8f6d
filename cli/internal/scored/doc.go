// Package scored writes scored records: the lines of each chunk, to a file that appears
// when it is complete and can be resumed, or to a stream.
package scored
