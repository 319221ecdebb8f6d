package input

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// A window bounds how much of an input is in memory at once. It is still large
// enough for the engine to group pairs of like length.
const (
	ChunkRecords = 1024
	chunkBytes   = 4 << 20
)

// A run can show, write and keep its work only at the end of a chunk, so a chunk
// is to take at most chunkTime. How many records that are shows
// by the windows before; the first one is small. By MLX's operations the last
// bits of a score can depend on what else is in its batch: there the windows
// follow from the input alone, and so do the scores.
const (
	chunkTime = 2 * time.Second
	firstWork = 64 << 10
	fixedWork = 512 << 10
)

// window is a stretch of an input.
type Chunk []records.Record

// windows reads an input window by window.
type Chunks struct {
	reader *records.Reader
	ahead  chan readAhead // what was read already; nil if nothing is read ahead
	stop   chan struct{}  // ends reading ahead
	ended  error          // why there are no more records

	limit    int // work of the next window
	adapting bool
	length   int // bytes of a pair that are work, 0 for all
}

// readAhead is a record, or why there is none.
type readAhead struct {
	record records.Record
	err    error
}

// NewChunks reads windows that are as large as they may be.
func NewChunks(r *records.Reader) *Chunks {
	return &Chunks{reader: r, limit: math.MaxInt}
}

// WorkFor sizes the windows for what scores them. A pair is cut to the maximum
// length of the model; a token is seldom more than 8 bytes.
func (w *Chunks) WorkFor(info engine.Info, long engine.Long) {
	w.adapting, w.limit = ExactAlone(info), fixedWork
	if w.adapting {
		w.limit = firstWork
	}
	if long != engine.Passages {
		w.length = 8 * info.MaxLength
	}
}

// ReadAhead makes next return what has come so far instead of waiting for a
// whole window: whoever writes the input may wait for an answer before it writes
// more. What comes while a window is scored makes the next one.
func (w *Chunks) ReadAhead() {
	w.ahead, w.stop = make(chan readAhead, ChunkRecords), make(chan struct{})
	go func() {
		for {
			record, err := w.reader.Next()
			select {
			case w.ahead <- readAhead{record, err}:
			case <-w.stop:
				return
			}
			if err != nil {
				return
			}
		}
	}()
}

// Close ends reading ahead.
func (w *Chunks) Close() {
	if w.stop != nil {
		close(w.stop)
	}
}

// Next reads the next window. It is empty at the end of the input. What was read
// ahead of an error comes before the error.
func (w *Chunks) Next() (Chunk, error) {
	var list Chunk
	bytes, work := 0, 0
	for w.ended == nil && (len(list) == 0 || len(list) < ChunkRecords && bytes < chunkBytes && work < w.limit) {
		r, come := w.record(len(list) > 0)
		if !come {
			break
		}
		if w.ended = r.err; r.err != nil {
			break
		}
		list = append(list, r.record)
		bytes += len(r.record.Text)
		work += w.work(&r.record)
	}
	if failed := w.ended != nil && !errors.Is(w.ended, io.EOF); failed && (len(list) == 0 || w.ahead == nil) {
		return nil, w.ended
	}
	return list, nil
}

// record reads a record. It does not wait if there is something to score and
// the input is read ahead.
func (w *Chunks) record(some bool) (r readAhead, come bool) {
	switch {
	case w.ahead == nil:
		r.record, r.err = w.reader.Next()
		return r, true
	case !some:
		return <-w.ahead, true
	}
	select {
	case r = <-w.ahead:
		return r, true
	default:
		return r, false
	}
}

// work estimates what scoring a record costs, in bytes of text.
func (w *Chunks) work(r *records.Record) int {
	const least = 16
	n := len(r.Query) + len(r.Document)
	if w.length > 0 {
		n = min(n, w.length)
	}
	return least + n
}

// Took records how long a window was scored.
func (w *Chunks) Took(list Chunk, d time.Duration) {
	if !w.adapting {
		return
	}
	work := 0
	for i := range list {
		work += w.work(&list[i])
	}
	fitting := float64(work) * float64(chunkTime) / float64(max(d, time.Millisecond))
	w.limit = int(min(fitting, 2*float64(w.limit), chunkBytes))
}

// Position is behind the window that next returned last, for an input that is
// not read ahead.
func (w *Chunks) Position() records.Position {
	if w.ahead != nil {
		return records.Position{}
	}
	return w.reader.Position()
}

// Pairs returns the pairs of the records that have one.
func (w Chunk) Pairs() []engine.Pair {
	pairs := make([]engine.Pair, 0, len(w))
	for _, r := range w {
		if r.Err == nil && !r.Header {
			pairs = append(pairs, engine.Pair{Query: r.Query, Document: r.Document})
		}
	}
	return pairs
}

// Locate names the line of the record whose text an engine's error about the
// window's pairs is about.
func (w Chunk) Locate(r *records.Reader, err error) error {
	var text *engine.TextError
	if !errors.As(err, &text) {
		return err
	}
	at := text.Index
	for i := range w {
		if w[i].Err != nil || w[i].Header {
			continue
		}
		if at == 0 {
			return r.Errorf(&w[i], "%w", TextReason(err))
		}
		at--
	}
	return err
}

// TextReason is an engine's error about a text, without the index of its pair:
// that is the engine's, and whoever reads the error is told the line.
func TextReason(err error) error {
	var text *engine.TextError
	switch {
	case !errors.As(err, &text):
		return err
	case text.Query:
		return fmt.Errorf("the query: %w: %w", text.Kind, text.Err)
	}
	return fmt.Errorf("%w: %w", text.Kind, text.Err)
}

// Check returns the first record's error, if any has one.
func (w Chunk) Check(r *records.Reader) error {
	for i := range w {
		if w[i].Err != nil {
			return r.Errorf(&w[i], "%w", w[i].Err)
		}
	}
	return nil
}

// ExactAlone reports whether a pair has the same score whatever else is in its
// batch: on kernels of ours it has, by MLX's operations its last bits may differ.
func ExactAlone(info engine.Info) bool { return info.Kernels != "MLX" }
