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

// ChunkRecords and chunkBytes bound the part of an input that is in memory at once.
// The engine can still group pairs of similar length.
const (
	ChunkRecords = 1024
	chunkBytes   = 4 << 20
)

// A run shows, writes and saves its progress only at the end of a chunk, so a chunk
// should take at most chunkTime. The first chunk is small; the time of each chunk
// determines the size of the next. With MLX's operations, the last bits of a score
// can depend on the other pairs of its batch. There the sizes depend only on the
// input, so that equal inputs get equal scores.
const (
	chunkTime = 2 * time.Second
	firstWork = 64 << 10
	fixedWork = 512 << 10
)

// A Chunk is a run of records that are scored together.
type Chunk []records.Record

// Chunks reads an input chunk by chunk.
type Chunks struct {
	reader *records.Reader
	ahead  chan readAhead // records read ahead; nil without ReadAhead
	stop   chan struct{}  // ends reading ahead
	ended  error          // of the read that ended the input

	records  int // max records of a chunk
	limit    int // max work of the next chunk
	adapting bool
	length   int // bytes of a pair that count as work, 0 for all
}

// A readAhead is a record, or the error in its place.
type readAhead struct {
	record records.Record
	err    error
}

// NewChunks returns a reader of chunks of the maximum size.
func NewChunks(r *records.Reader) *Chunks {
	return &Chunks{reader: r, records: ChunkRecords, limit: math.MaxInt}
}

// WorkFor sizes the chunks for the engine. The model cuts a pair to its maximum
// length, and a token rarely has more than 8 bytes.
func (w *Chunks) WorkFor(info engine.Info, long engine.Long) {
	w.adapting, w.limit = ExactAlone(info), fixedWork
	if w.adapting {
		w.limit = firstWork
	}
	if long != engine.Passages {
		w.length = 8 * info.MaxLength
	}
}

// Fixed makes chunks whose sizes depend on the input only: of at most n records if a
// pair's score is the same in any batch, which exact says, and otherwise the chunks that
// WorkFor makes.
func (w *Chunks) Fixed(exact bool, maxLength int, long engine.Long, n int) {
	if exact {
		w.records = min(n, ChunkRecords)
		return
	}
	w.limit = fixedWork
	if long != engine.Passages {
		w.length = 8 * maxLength
	}
}

// ReadAhead makes Next return the records that have arrived instead of waiting for
// a whole chunk: the writer of the input may wait for an answer before it writes
// more. Records that arrive while a chunk is scored form the next chunk.
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

// Next returns the next chunk, which is empty at the end of the input. Records that
// were read ahead of an error come before the error.
func (w *Chunks) Next() (Chunk, error) {
	var list Chunk
	bytes, work := 0, 0
	for w.ended == nil && (len(list) == 0 || len(list) < w.records && bytes < chunkBytes && work < w.limit) {
		r, ok := w.record(len(list) > 0)
		if w.ended = r.err; !ok || r.err != nil {
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

// record reads a record. If the input is read ahead and some records are ready to
// score, record does not wait: ok is then false if no record has arrived.
func (w *Chunks) record(some bool) (r readAhead, ok bool) {
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

// work estimates the cost of scoring a record, in bytes of text.
func (w *Chunks) work(r *records.Record) int {
	const least = 16
	n := len(r.Query) + len(r.Document)
	if w.length > 0 {
		n = min(n, w.length)
	}
	return least + n
}

// Took adapts the size of the next chunk to the time that a chunk took.
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

// Position returns the position behind the last chunk, or zero if the input is read
// ahead.
func (w *Chunks) Position() records.Position {
	if w.ahead != nil {
		return records.Position{}
	}
	return w.reader.Position()
}

// Pairs returns the pairs of the records without errors and header rows.
func (w Chunk) Pairs() []engine.Pair {
	pairs := make([]engine.Pair, 0, len(w))
	for _, r := range w {
		if r.Err == nil && !r.Header {
			pairs = append(pairs, engine.Pair{Query: r.Query, Document: r.Document})
		}
	}
	return pairs
}

// Locate adds the line of the record to an engine's error about a text of the
// chunk. It returns other errors unchanged.
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

// TextReason removes the index of the pair from an engine's error about a text:
// messages have the line instead.
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

// Check returns the error of the first record that has one.
func (w Chunk) Check(r *records.Reader) error {
	for i := range w {
		if w[i].Err != nil {
			return r.Errorf(&w[i], "%w", w[i].Err)
		}
	}
	return nil
}

// ExactAlone reports whether a pair gets the same score in any batch. It does on
// mlxrank's kernels; with MLX's operations the last bits may differ.
func ExactAlone(info engine.Info) bool { return info.Kernels != "MLX" }
