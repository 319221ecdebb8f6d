package mlx

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Device is where a session runs.
type Device string

// Auto is a GPU if MLX can use one, else the CPU.
const (
	Auto Device = "auto"
	GPU  Device = "gpu"
	CPU  Device = "cpu"
)

// DType is the number format of weights and activations.
type DType string

// AutoDType is float16 on a GPU and float32 on the CPU.
const (
	AutoDType DType = "auto"
	Float32   DType = "float32"
	Float16   DType = "float16"
	BFloat16  DType = "bfloat16"
)

// Activation is the function of the feed-forward layers.
type Activation string

// GELU is the exact one, with erf; GELUTanh its approximation.
const (
	GELU     Activation = "gelu"
	GELUTanh Activation = "gelu_tanh"
	ReLU     Activation = "relu"
)

// ModelConfig is a BertForSequenceClassification's shape.
type ModelConfig struct {
	VocabSize        int // rows of the word embeddings
	HiddenSize       int // width of a token's vector, a multiple of Heads
	Layers           int
	Heads            int // attention heads of a layer
	IntermediateSize int // inner width of a feed-forward block
	MaxPositions     int // rows of the position embeddings: the longest pair, in tokens
	TypeVocabSize    int // rows of the token type embeddings
	Labels           int // logits of a pair
	LayerNormEps     float64
	Activation       Activation
}

// A Tensor is one named weight, row-major and little endian, of one or two
// dimensions. Names are those of BertForSequenceClassification without "bert.".
type Tensor struct {
	Name  string
	DType DType // Float32, Float16 or BFloat16
	Shape []int
	Data  []byte
}

// Options say how a session runs.
type Options struct {
	Device Device // Auto if empty
	DType  DType  // AutoDType if empty
	// Threads is how many shards of a batch the CPU works on at once; 0 is one
	// per processor. A GPU ignores it.
	Threads int
	// MicrobatchTokens is the most tokens, padding included, in one shard; 0 is what
	// was measured best.
	MicrobatchTokens int
}

// A Batch is ragged: the ids and token type ids of all its pairs one after
// another, and each pair's length.
type Batch struct {
	IDs     []int32 // [tokens]
	TypeIDs []int32 // [tokens]
	Lengths []int32 // [pairs], adding up to tokens
	// Microbatches cuts the batch into what is computed together: how many pairs
	// each microbatch takes, in the order of the batch. If empty the library cuts it.
	Microbatches []int32
}

// A Ticket names a submitted batch until it is collected.
type Ticket int64

// Stats are the figures of one batch.
type Stats struct {
	Tokens         int   // real
	ComputedTokens int   // rows computed, padding included
	ExecuteNs      int64 // from submit to the last logit
	// Microbatches holds the figures of each microbatch of a batch that came with
	// its Microbatches, in their order.
	Microbatches []Microbatch
}

// Microbatch holds the figures of one microbatch. Times count from the submit of its batch.
type Microbatch struct {
	Worker         int // index of the worker that ran it
	Pairs          int
	Tokens         int // real
	ComputedTokens int // rows computed, padding included
	StartNs        int64
	FinishNs       int64
}

// A Session holds a model on a device. At most two of its batches are in
// flight at a time.
type Session struct {
	library *Library
	thread  *thread
	handle  atomic.Int64 // 0 once closed
	device  Device
	dtype   DType
	labels  int

	mu     sync.Mutex
	shards map[Ticket]int // of the batches in flight that came with theirs
}

// Open copies the model to the device and opens a session on it. The tensors'
// data may be released when it returns. ErrNoDevice says that the device is not
// there, ErrInvalid that a tensor is missing or has not the shape that cfg implies.
func (l *Library) Open(cfg ModelConfig, tensors []Tensor, opts Options) (*Session, error) {
	s := &Session{library: l, labels: cfg.Labels, device: l.resolve(opts.Device), shards: make(map[Ticket]int)}
	s.dtype = resolveDType(opts.DType, s.device)
	config, err := s.config(cfg)
	if err != nil {
		return nil, err
	}
	native, err := nativeTensors(tensors)
	if err != nil {
		return nil, err
	}
	s.thread = newThread()
	if err := s.open(config, native, opts); err != nil {
		s.thread.close()
		return nil, err
	}
	return s, nil
}

// open leaves only the session open: it keeps the model, so that closing the
// one frees both.
func (s *Session) open(config cConfig, tensors []cTensor, opts Options) error {
	n := s.library.native
	var model int64
	err := callOn(s.thread, "model_open", func(err *byte, errLen int32) int32 {
		return n.modelOpen(&config, first(tensors), int32(len(tensors)), &model, err, errLen)
	})
	runtime.KeepAlive(tensors)
	if err != nil {
		return err
	}
	options := cOptions{size: sizeOf[cOptions](), threads: int32(opts.Threads), shardTokens: int32(opts.MicrobatchTokens)}
	var handle int64
	opened := callOn(s.thread, "session_open", func(err *byte, errLen int32) int32 {
		return n.sessionOpen(model, &options, &handle, err, errLen)
	})
	s.handle.Store(handle)
	err = callOn(s.thread, "model_close", func(err *byte, errLen int32) int32 {
		return n.modelClose(model, err, errLen)
	})
	if opened != nil {
		return opened
	}
	return err
}

// Layout is how a session lays out a shard, the pairs that one graph computes.
type Layout struct {
	Unpadded         bool   // tokens one after another; else rows as wide as the longest pair
	Grid             int    // widths are multiples of it, up to the model's positions
	Workers          int    // shards at work at once
	MicrobatchTokens int    // most computed tokens in a shard, but for a longer pair
	Kernels          string // what computes: "MLX", or the instruction set of our own kernels
}

// Layout is how the session lays out shards.
func (s *Session) Layout() (Layout, error) {
	c := cLayout{size: sizeOf[cLayout]()}
	err := callOn(s.thread, "session_layout", func(err *byte, errLen int32) int32 {
		return s.library.native.layout(s.handle.Load(), &c, err, errLen)
	})
	if err != nil {
		return Layout{}, err
	}
	return Layout{
		Unpadded:         c.packed != 0,
		Grid:             int(c.grid),
		Workers:          int(c.lanes),
		MicrobatchTokens: int(c.shardTokens),
		Kernels:          text(c.kernels[:]),
	}, nil
}

// Device is where the session runs: GPU or CPU.
func (s *Session) Device() Device { return s.device }

// DType is what the session computes in.
func (s *Session) DType() DType { return s.dtype }

// Submit starts a batch and returns at once; the slices may be reused then. It
// returns ErrBusy while two tickets are in flight.
func (s *Session) Submit(b Batch) (Ticket, error) {
	if len(b.IDs) != len(b.TypeIDs) {
		return 0, fmt.Errorf("mlx: batch has %d ids but %d token type ids", len(b.IDs), len(b.TypeIDs))
	}
	c := cBatch{
		size:    sizeOf[cBatch](),
		pairs:   int32(len(b.Lengths)),
		tokens:  int64(len(b.IDs)),
		ids:     first(b.IDs),
		typeIDs: first(b.TypeIDs),
		lengths: first(b.Lengths),
	}
	if len(b.Microbatches) > 0 {
		c.shards, c.shardCount = first(b.Microbatches), int32(len(b.Microbatches))
	}
	var ticket int64
	err := callOn(s.thread, "submit", func(err *byte, errLen int32) int32 {
		return s.library.native.submit(s.handle.Load(), &c, &ticket, err, errLen)
	})
	if err == nil && len(b.Microbatches) > 0 {
		s.mu.Lock()
		s.shards[Ticket(ticket)] = len(b.Microbatches)
		s.mu.Unlock()
	}
	return Ticket(ticket), err
}

// Collect waits for a batch and writes its logits to out, [pairs, labels]
// row-major in the order of the batch. If out has another length the ticket
// stays in flight. While it waits the next batch can be submitted.
func (s *Session) Collect(t Ticket, out []float32) (Stats, error) {
	handle := s.handle.Load()
	if handle == 0 {
		return Stats{}, ErrClosed
	}
	s.mu.Lock()
	shards := make([]cShard, s.shards[t])
	s.mu.Unlock()
	c := cStats{size: sizeOf[cStats](), shard: first(shards), shardRoom: int32(len(shards))}
	err := callHere("collect", func(err *byte, errLen int32) int32 {
		return s.library.native.collect(handle, int64(t), first(out), int64(len(out)), &c, err, errLen)
	})
	if !errors.Is(err, ErrInvalid) { // else the ticket is in flight still
		s.forget(t)
	}
	if err != nil {
		return Stats{}, err
	}
	stats := Stats{
		Tokens:         int(c.tokens),
		ComputedTokens: int(c.computedTokens),
		ExecuteNs:      c.executeNs,
		Microbatches:   make([]Microbatch, len(shards)),
	}
	for i, shard := range shards {
		stats.Microbatches[i] = Microbatch{
			Worker:         int(shard.lane),
			Pairs:          int(shard.pairs),
			Tokens:         int(shard.tokens),
			ComputedTokens: int(shard.computedTokens),
			StartNs:        shard.startNs,
			FinishNs:       shard.finishNs,
		}
	}
	return stats, nil
}

func (s *Session) forget(t Ticket) {
	s.mu.Lock()
	delete(s.shards, t)
	s.mu.Unlock()
}

// Close waits for what is running, drops tickets not collected, and frees the
// model. Closing again does nothing.
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

func (s *Session) config(cfg ModelConfig) (cConfig, error) {
	device, err := s.library.deviceCode(s.device)
	if err != nil {
		return cConfig{}, err
	}
	dtype, err := dtypeCode(s.dtype)
	if err != nil {
		return cConfig{}, err
	}
	activation, err := activationCode(cfg.Activation)
	if err != nil {
		return cConfig{}, err
	}
	return cConfig{
		size:             sizeOf[cConfig](),
		device:           device,
		dtype:            dtype,
		activation:       activation,
		vocabSize:        int32(cfg.VocabSize),
		hiddenSize:       int32(cfg.HiddenSize),
		layers:           int32(cfg.Layers),
		heads:            int32(cfg.Heads),
		intermediateSize: int32(cfg.IntermediateSize),
		maxPositions:     int32(cfg.MaxPositions),
		typeVocabSize:    int32(cfg.TypeVocabSize),
		labels:           int32(cfg.Labels),
		layerNormEps:     cfg.LayerNormEps,
	}, nil
}

func nativeTensors(tensors []Tensor) ([]cTensor, error) {
	native := make([]cTensor, len(tensors))
	for i, t := range tensors {
		dtype, err := dtypeCode(t.DType)
		if err != nil {
			return nil, fmt.Errorf("tensor %s: %w", t.Name, err)
		}
		if len(t.Shape) < 1 || len(t.Shape) > 2 {
			return nil, fmt.Errorf("mlx: tensor %s has %d dimensions, want 1 or 2", t.Name, len(t.Shape))
		}
		native[i] = cTensor{
			name:  first(append([]byte(t.Name), 0)),
			data:  first(t.Data),
			bytes: int64(len(t.Data)),
			dtype: dtype,
			rank:  int32(len(t.Shape)),
		}
		for d, n := range t.Shape {
			native[i].shape[d] = int64(n)
		}
	}
	return native, nil
}

func (l *Library) resolve(d Device) Device {
	if d != Auto && d != "" {
		return d
	}
	if l.info.GPUs > 0 {
		return GPU
	}
	return CPU
}

func resolveDType(t DType, d Device) DType {
	if t != AutoDType && t != "" {
		return t
	}
	if d == GPU {
		return Float16
	}
	return Float32
}

func (l *Library) deviceCode(d Device) (int32, error) {
	switch l.resolve(d) {
	case CPU:
		return 0, nil
	case GPU:
		return 1, nil
	}
	return 0, fmt.Errorf("mlx: device %q is none of auto, gpu, cpu", d)
}

func dtypeCode(t DType) (int32, error) {
	switch t {
	case Float32:
		return 0, nil
	case Float16:
		return 1, nil
	case BFloat16:
		return 2, nil
	}
	return 0, fmt.Errorf("mlx: dtype %q is none of float32, float16, bfloat16", t)
}

func activationCode(a Activation) (int32, error) {
	switch a {
	case GELU:
		return 0, nil
	case GELUTanh:
		return 1, nil
	case ReLU:
		return 2, nil
	}
	return 0, fmt.Errorf("mlx: activation %q is none of gelu, gelu_tanh, relu", a)
}
