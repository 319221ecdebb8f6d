package mlx

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Batch holds the token ids and token type ids of all its pairs end to end, and
// each pair's length.
type Batch struct {
	IDs     []int32 // [tokens]
	TypeIDs []int32 // [tokens]
	Lengths []int32 // [pairs], adding up to tokens
	// Microbatches holds how many pairs each microbatch takes, in the order of the
	// batch, adding up to the pairs. One graph computes a microbatch.
	Microbatches []int32
}

// Ticket identifies a submitted batch until it is collected.
type Ticket int64

// Stats holds the figures of one batch.
type Stats struct {
	Tokens         int   // without padding
	ComputedTokens int   // with padding
	ExecuteNs      int64 // from submit to the last logit
	Microbatches   []Microbatch
}

// Microbatch holds the figures of one microbatch. Times count from the submit of
// its batch.
type Microbatch struct {
	Worker         int // index of the worker that computed it
	Pairs          int
	Tokens         int // without padding
	ComputedTokens int // with padding
	StartNs        int64
	FinishNs       int64
}

// Session holds a model on a device. At most two of its batches are in flight.
type Session struct {
	library *Library
	thread  *thread
	handle  atomic.Int64 // 0 once closed
	device  Device
	dtype   DType
	graph   []MatmulCount
	labels  int

	mu           sync.Mutex
	microbatches map[Ticket]int // their number, by ticket in flight
}

// Layout describes how a session computes a microbatch, and what to plan for.
type Layout struct {
	Unpadded         bool   // rows end to end, no padding; else rows as wide as the longest
	Grid             int    // padded widths are multiples of it, up to the model's positions
	Workers          int    // microbatches computed at the same time
	MicrobatchTokens int    // recommended maximum of computed tokens in a microbatch
	Kernels          string // "MLX", or the instruction set of our kernels
	Variant          string // of the unfused graph; "" on the fused graph
}

// Layout returns the session's layout.
func (s *Session) Layout() (Layout, error) {
	c := cLayout{size: sizeOf[cLayout]()}
	err := callOn(s.thread, "session_layout", func(err *byte, errLen int32) int32 {
		return s.library.native.layout(s.handle.Load(), &c, err, errLen)
	})
	if err != nil {
		return Layout{}, err
	}
	return Layout{
		Unpadded:         c.unpadded != 0,
		Grid:             int(c.grid),
		Workers:          int(c.workers),
		MicrobatchTokens: int(c.microbatchTokens),
		Kernels:          text(c.kernels[:]),
		Variant:          text(c.variant[:]),
	}, nil
}

// Device returns the session's device, GPU or CPU.
func (s *Session) Device() Device { return s.device }

// DType returns the number format that the session computes in: Open has read it from
// the graph.
func (s *Session) DType() DType { return s.dtype }

// Submit copies and starts a batch, and returns without waiting for it. Submit
// returns ErrBusy while two tickets are in flight.
func (s *Session) Submit(b Batch) (Ticket, error) {
	if len(b.IDs) != len(b.TypeIDs) {
		return 0, fmt.Errorf("mlx: batch has %d ids and %d token type ids, want the same number", len(b.IDs), len(b.TypeIDs))
	}
	c := cBatch{
		size:            sizeOf[cBatch](),
		pairs:           int32(len(b.Lengths)),
		tokens:          int64(len(b.IDs)),
		ids:             first(b.IDs),
		typeIDs:         first(b.TypeIDs),
		lengths:         first(b.Lengths),
		microbatches:    first(b.Microbatches),
		microbatchCount: int32(len(b.Microbatches)),
	}
	var ticket int64
	err := callOn(s.thread, "submit", func(err *byte, errLen int32) int32 {
		return s.library.native.submit(s.handle.Load(), &c, &ticket, err, errLen)
	})
	if err == nil {
		s.mu.Lock()
		s.microbatches[Ticket(ticket)] = len(b.Microbatches)
		s.mu.Unlock()
	}
	return Ticket(ticket), err
}

// Collect waits for a batch and writes its logits to out: [pairs, labels]
// row-major, in the order of the batch. If out has another length, Collect
// returns ErrInvalid and the ticket stays in flight. While Collect waits, another
// goroutine may submit the next batch.
func (s *Session) Collect(t Ticket, out []float32) (Stats, error) {
	handle := s.handle.Load()
	if handle == 0 {
		return Stats{}, ErrClosed
	}
	s.mu.Lock()
	figures := make([]cMicrobatch, s.microbatches[t])
	s.mu.Unlock()
	c := cStats{size: sizeOf[cStats](), microbatches: first(figures), microbatchRoom: int32(len(figures))}
	err := callHere("collect", func(err *byte, errLen int32) int32 {
		return s.library.native.collect(handle, int64(t), first(out), int64(len(out)), &c, err, errLen)
	})
	if !errors.Is(err, ErrInvalid) { // else the ticket is still in flight
		s.forget(t)
	}
	if err != nil {
		return Stats{}, err
	}
	stats := Stats{
		Tokens:         int(c.tokens),
		ComputedTokens: int(c.computedTokens),
		ExecuteNs:      c.executeNs,
		Microbatches:   make([]Microbatch, len(figures)),
	}
	for i, m := range figures {
		stats.Microbatches[i] = Microbatch{
			Worker:         int(m.worker),
			Pairs:          int(m.pairs),
			Tokens:         int(m.tokens),
			ComputedTokens: int(m.computedTokens),
			StartNs:        m.startNs,
			FinishNs:       m.finishNs,
		}
	}
	return stats, nil
}

func (s *Session) forget(t Ticket) {
	s.mu.Lock()
	delete(s.microbatches, t)
	s.mu.Unlock()
}

// Close waits for batches in flight, drops tickets that were not collected, and
// frees the model. A second Close does nothing.
func (s *Session) Close() error {
	err := callOn(s.thread, "session_close", func(err *byte, errLen int32) int32 {
		handle := s.handle.Swap(0)
		if handle == 0 {
			return statusOK
		}
		return s.library.native.sessionClose(handle, err, errLen)
	})
	s.thread.close()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// WriteActivations computes one pair and writes its activations to file, whose
// name must end in .safetensors: float32 tensors [tokens, size], named after the
// PyTorch modules of BERT whose outputs they are, without "bert.". They are embeddings,
// then encoder.layer.N.attention.self, encoder.layer.N.attention and
// encoder.layer.N for each layer, then the steps of the head, of BERT pooler and
// classifier. native/mlxrank.h lists what other encoders have. If the head reads [CLS]
// alone, the last layer computes only that, and its tensors have one row.
//
// Use it to debug a new architecture: compare it with PyTorch step by step.
func (s *Session) WriteActivations(file string, ids, typeIDs []int32) error {
	if len(ids) != len(typeIDs) {
		return fmt.Errorf("mlx: pair has %d ids and %d token type ids, want the same number", len(ids), len(typeIDs))
	}
	name := append([]byte(file), 0)
	return callHere("debug_activations", func(err *byte, errLen int32) int32 {
		return s.library.native.activations(s.handle.Load(), first(ids), first(typeIDs), int32(len(ids)), first(name), err, errLen)
	})
}
