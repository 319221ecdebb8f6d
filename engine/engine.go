package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/mlx"
)

// ErrClosed is returned by every call after Close.
var ErrClosed = errors.New("engine: closed")

// Config says which model runs where. Empty strings mean the default.
type Config struct {
	Model      string // "builtin" or a directory
	Adapter    string // directory of a PEFT LoRA adapter to merge, "" for none
	Device     string // "auto", "gpu" or "cpu"
	DType      string // "auto", "float32", "float16" or "bfloat16"
	MaxLength  int    // tokens of a pair, at least 3; 0 is the model's own
	Activation string // "auto", "raw" or "sigmoid"
	Library    string // path of libmlxrank; "" searches as mlx.Load does
	Threads    int    // CPU shards at work at once; 0 is one per processor
	Logger     zerolog.Logger
}

// A Pair is one query and one document.
type Pair struct {
	Query    string
	Document string
}

// A Result holds the scores of one request.
type Result struct {
	Scores         []float32 // after the activation, in the order of the pairs
	Logits         []float32 // as the classifier gave them, in the same order
	Timings        Timings
	Truncated      int // pairs that were longer than the maximum length
	Tokens         int // real tokens
	ComputedTokens int // rows computed, padding included
	Batches        int
}

// Info says what an engine runs.
type Info struct {
	Model      string // as given
	Dir        string // where its files are
	Adapter    string // merged into it, "" if none
	Device     string // "gpu" or "cpu"
	DeviceName string
	DType      string
	MaxLength  int
	Activation string // "raw" or "sigmoid"
	Library    mlx.Info
	Startup    Startup
}

// Startup is where the time of Open went. Parts overlap, so they add up to
// more than Total.
type Startup struct {
	Library   time.Duration // finding, opening and checking libmlxrank
	Weights   time.Duration // reading, verifying and merging
	Tokenizer time.Duration
	Session   time.Duration // copying the weights to the device
	Total     time.Duration
}

// An Engine holds one model on one device.
type Engine struct {
	info      Info
	sigmoid   bool
	log       zerolog.Logger
	library   *mlx.Library
	tokenizer *tokenizer
	session   *mlx.Session
	limits    limits

	queue chan *batch   // batches ready to run
	ended chan struct{} // closed when the runner has returned

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // requests at work, also those nobody waits for
}

// Info says what the engine runs.
func (e *Engine) Info() Info { return e.info }

// Memory reads MLX's memory figures; it does not wait for inference.
func (e *Engine) Memory() (mlx.Memory, error) { return e.library.Memory() }

// enter registers a request, so that Close waits for it.
func (e *Engine) enter() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	e.calls.Add(1)
	return nil
}

// Close waits for the requests at work, then frees the model. Closing again
// does nothing.
func (e *Engine) Close() error {
	e.mu.Lock()
	first := !e.closed
	e.closed = true
	e.mu.Unlock()
	if first {
		e.calls.Wait()
		close(e.queue)
	}
	<-e.ended
	return errors.Join(e.session.Close(), e.tokenizer.close())
}

// run calls f, which may go on after ctx has ended, and waits for either. The
// engine stays open until f returns.
func run[T any](ctx context.Context, e *Engine, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := e.enter(); err != nil {
		return none, err
	}
	done := make(chan outcome, 1)
	go func() {
		defer e.calls.Done()
		value, err := f()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
