package mlx

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// Device names the device that a session runs on.
type Device string

// Devices. Auto is the GPU if MLX can use one, else the CPU.
const (
	Auto Device = "auto"
	GPU  Device = "gpu"
	CPU  Device = "cpu"
)

// DType names the number format of weights and activations.
type DType string

// Number formats. AutoDType is float16 on a GPU and float32 on the CPU.
const (
	AutoDType DType = "auto"
	Float32   DType = "float32"
	Float16   DType = "float16"
	BFloat16  DType = "bfloat16"
)

// Activation names the function of the feed-forward layers.
type Activation string

// Activations. GELU is exact, with erf; GELUTanh approximates it.
const (
	GELU     Activation = "gelu"
	GELUTanh Activation = "gelu_tanh"
	ReLU     Activation = "relu"
)

// ModelConfig holds the shape of a BertForSequenceClassification.
type ModelConfig struct {
	VocabSize        int // rows of the word embeddings
	HiddenSize       int // width of a token's vector, a multiple of Heads
	Layers           int
	Heads            int // attention heads per layer
	IntermediateSize int // inner width of a feed-forward block
	MaxPositions     int // rows of the position embeddings: the tokens of the longest pair
	TypeVocabSize    int // rows of the token type embeddings
	Labels           int // logits per pair
	LayerNormEps     float64
	Activation       Activation
}

// Tensor holds one named weight, row-major and little endian, of one or two
// dimensions. Its name is BertForSequenceClassification's without "bert.".
type Tensor struct {
	Name  string
	DType DType // Float32, Float16 or BFloat16
	Shape []int
	Data  []byte
}

// Options configures a session.
type Options struct {
	Device Device // Auto if empty
	DType  DType  // AutoDType if empty
	// Threads is the number of CPU workers; 0 is one per processor. A GPU ignores it.
	Threads int
}

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
	labels  int

	mu           sync.Mutex
	microbatches map[Ticket]int // their number, by ticket in flight
}

// Open copies the model to the device and opens a session on it. The caller may
// release the tensors' data when Open returns. Open returns ErrNoDevice if MLX
// cannot use the device, and ErrInvalid if a tensor is missing or its shape does
// not match cfg.
func (l *Library) Open(cfg ModelConfig, tensors []Tensor, opts Options) (*Session, error) {
	s := &Session{library: l, labels: cfg.Labels, device: l.resolve(opts.Device), microbatches: make(map[Ticket]int)}
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

// open leaves only the session's handle open. The session keeps the model, so
// closing the session frees both.
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
	options := cOptions{size: sizeOf[cOptions](), threads: int32(opts.Threads)}
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

// Layout describes how a session computes a microbatch, and what to plan for.
type Layout struct {
	Unpadded         bool   // rows end to end, no padding; else rows as wide as the longest
	Grid             int    // padded widths are multiples of it, up to the model's positions
	Workers          int    // microbatches computed at the same time
	MicrobatchTokens int    // recommended maximum of computed tokens in a microbatch
	Kernels          string // "MLX", or the instruction set of our kernels
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
	}, nil
}

// Device returns the session's device, GPU or CPU.
func (s *Session) Device() Device { return s.device }

// DType returns the number format that the session computes in.
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

// WriteActivations computes one pair and writes its activations to file, whose
// name must end in .safetensors: float32 tensors [tokens, size], named after the
// PyTorch modules whose outputs they are, without "bert.". They are embeddings,
// then encoder.layer.N.attention.self, encoder.layer.N.attention and
// encoder.layer.N for each layer, then pooler and classifier. The last layer
// computes only [CLS], so its tensors have one row.
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
	return 0, fmt.Errorf("mlx: unknown device %q, want auto, gpu or cpu", d)
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
	return 0, fmt.Errorf("mlx: unknown dtype %q, want float32, float16 or bfloat16", t)
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
	return 0, fmt.Errorf("mlx: unknown activation %q, want gelu, gelu_tanh or relu", a)
}
