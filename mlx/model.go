package mlx

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
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

// Number formats. AutoDType is float16 on a GPU and float32 on the CPU. A model with
// small weights is Int8W or Int4W, whatever it is asked for: its other numbers have
// AutoDType, or the dtype asked for.
const (
	AutoDType DType = "auto"
	Float32   DType = "float32"
	Float16   DType = "float16"
	BFloat16  DType = "bfloat16"
	Int8      DType = "int8" // matmuls of the encoder, on a CPU only; the rest is float32
	Int8W     DType = "int8w"
	Int4W     DType = "int4w"
)

// PackedUint32 is the format of a Tensor of small weights.
const PackedUint32 DType = "uint32"

// Activation names a function of a number.
type Activation string

// Activations. GELU is exact, with erf; GELUTanh approximates it. SiLU is
// x sigmoid(x). Feed-forward layers have one of the first three.
const (
	GELU     Activation = "gelu"
	GELUTanh Activation = "gelu_tanh"
	ReLU     Activation = "relu"
	SiLU     Activation = "silu"
	Tanh     Activation = "tanh"
	Sigmoid  Activation = "sigmoid"
	Identity Activation = "identity"
)

// ModelConfig describes an encoder and the head that makes logits of a pair.
type ModelConfig struct {
	VocabSize        int // rows of the word embeddings
	HiddenSize       int // width of a token's vector, a multiple of Heads
	Layers           int
	Heads            int // attention heads per layer
	IntermediateSize int // inner width of a feed-forward block
	MaxPositions     int // tokens of the longest pair
	TypeVocabSize    int // rows of the token type embeddings
	Labels           int // logits per pair
	LayerNormEps     float64
	Activation       Activation

	EmbeddingSize int     // width of the embeddings; if not HiddenSize, they are projected
	FirstPosition int     // row of the position embeddings for a pair's first token
	PreNorm       bool    // LayerNorm before each block and at the end, not after each block
	Gated         bool    // feed-forward is output(activation(a) * b), for [a b] = intermediate(x)
	Window        int     // a local layer's token attends to so many on each side; 0: no local layers
	GlobalEvery   int     // with Window: layer i is global if i is a multiple of it
	RopeBase      float64 // of rotary positions in global layers; 0: position embeddings instead
	LocalRopeBase float64 // likewise in local layers
	Pooling       Pooling
	Head          []HeadStep // 1 to 16 steps

	// WeightBits, 8 or 4, and WeightGroup, 32 or 64, describe small weights, as
	// native/mlxrank.h does. They are 0 for weights in floating point.
	WeightBits  int
	WeightGroup int
}

// Pooling selects what the head reads of a pair: a sum of the constants. Each makes a
// vector of HiddenSize; several lie end to end in the constants' order.
type Pooling int

// Poolings. The means are over the pair's tokens: PoolMeanSqrt divides their sum by the
// square root of their number, and PoolWeightedMean weights the token at position i
// by i + 1.
const (
	PoolCLS Pooling = 1 << iota
	PoolMax
	PoolMean
	PoolMeanSqrt
	PoolWeightedMean
	PoolLast
)

// A HeadStep is a step of the head, computed in float32. The first one's input is what
// is pooled, the last one's result the logits. It has tensors Name.weight and Name.bias.
type HeadStep struct {
	Name      string // at most 95 bytes
	LayerNorm bool   // else a dense layer: Activation(W x + b)
	Epsilon   float64

	Out        int        // columns of a dense layer's result
	Activation Activation // of a dense layer
	Residual   bool       // a dense layer then adds its input, which has Out columns
}

// Tensor holds one named weight, row-major and little endian, of one or two
// dimensions. Its name is BertForSequenceClassification's without "bert.", or of
// what BERT lacks the one that native/mlxrank.h gives it.
type Tensor struct {
	Name  string
	DType DType // Float32, Float16, BFloat16 or PackedUint32
	Shape []int
	Data  []byte
}

// Options configures a session.
type Options struct {
	Device Device // Auto if empty
	DType  DType  // AutoDType if empty
	// Threads is the number of CPU workers; 0 is one per processor. A GPU ignores it.
	Threads int
	// Variant names one of Model.Variants; the default is the first.
	Variant string
}

// Model holds a model's weights on a device. Any number of sessions compute with
// them.
type Model struct {
	library *Library
	handle  atomic.Int64 // 0 once closed
	device  Device
	dtype   DType // as reported
	labels  int
}

// Open copies the model to the device and opens a session on it. The caller may
// release the tensors' data when Open returns. Open returns ErrNoDevice if MLX
// cannot use the device, and ErrInvalid if a tensor is missing or its shape does
// not match cfg.
func (l *Library) Open(cfg ModelConfig, tensors []Tensor, opts Options) (*Session, error) {
	m, err := l.OpenModel(cfg, tensors, opts)
	if err != nil {
		return nil, err
	}
	s, err := m.Open(opts)
	if err = errors.Join(err, m.Close()); err != nil && s != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, err
}

// OpenModel copies the model to the device, for several sessions. It is like Open,
// and takes Device and DType of opts.
func (l *Library) OpenModel(cfg ModelConfig, tensors []Tensor, opts Options) (*Model, error) {
	m := &Model{library: l, labels: cfg.Labels, device: l.resolve(opts.Device)}
	computed := resolveDType(opts.DType, m.device)
	m.dtype = labelOf(cfg, computed)
	config, err := m.config(cfg, computed)
	if err != nil {
		return nil, err
	}
	native, err := nativeTensors(tensors)
	if err != nil {
		return nil, err
	}
	var handle int64
	err = callHere("model_open", func(err *byte, errLen int32) int32 {
		return l.native.modelOpen(&config, first(native), int32(len(native)), &handle, err, errLen)
	})
	runtime.KeepAlive(tensors)
	runtime.KeepAlive(native)
	m.handle.Store(handle)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Open opens a session of the model. It takes Threads and Variant of opts, and
// returns ErrInvalid if there is no such variant. It returns ErrDType if the session's
// graph does not compute in the model's dtype.
func (m *Model) Open(opts Options) (*Session, error) {
	s := &Session{library: m.library, labels: m.labels, device: m.device, dtype: m.dtype, microbatches: make(map[Ticket]int), thread: newThread()}
	options := cOptions{size: sizeOf[cOptions](), threads: int32(opts.Threads), variant: first(append([]byte(opts.Variant), 0))}
	var handle int64
	err := callOn(s.thread, "session_open", func(err *byte, errLen int32) int32 {
		return m.library.native.sessionOpen(m.handle.Load(), &options, &handle, err, errLen)
	})
	runtime.KeepAlive(options.variant)
	if err != nil {
		s.thread.close()
		return nil, err
	}
	s.handle.Store(handle)
	if err := s.check(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Variants returns the names of the ways to compute the model's unfused graph, the
// default first. A model on the fused graph has none.
func (m *Model) Variants() ([]string, error) {
	c := cVariants{size: sizeOf[cVariants]()}
	err := callHere("model_variants", func(err *byte, errLen int32) int32 {
		return m.library.native.variants(m.handle.Load(), &c, err, errLen)
	})
	var names []string
	for i := range c.count {
		names = append(names, text(c.names[i][:]))
	}
	return names, err
}

// Close frees the weights once the model's last session is closed too. A second
// call does nothing.
func (m *Model) Close() error {
	handle := m.handle.Swap(0)
	if handle == 0 {
		return nil
	}
	return callHere("model_close", func(err *byte, errLen int32) int32 {
		return m.library.native.modelClose(handle, err, errLen)
	})
}

func (m *Model) config(cfg ModelConfig, computed DType) (cConfig, error) {
	device, err := m.library.deviceCode(m.device)
	if err != nil {
		return cConfig{}, err
	}
	dtype, err := dtypeCode(computed)
	if err != nil {
		return cConfig{}, err
	}
	activation, err := activationCode(cfg.Activation)
	if err != nil {
		return cConfig{}, err
	}
	head, err := nativeHead(cfg.Head)
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
		embeddingSize:    int32(cfg.EmbeddingSize),
		firstPosition:    int32(cfg.FirstPosition),
		preNorm:          flag(cfg.PreNorm),
		gated:            flag(cfg.Gated),
		window:           int32(cfg.Window),
		globalEvery:      int32(cfg.GlobalEvery),
		pooling:          int32(cfg.Pooling),
		headSteps:        int32(len(cfg.Head)),
		weightBits:       int32(cfg.WeightBits),
		weightGroup:      int32(cfg.WeightGroup),
		layerNormEps:     cfg.LayerNormEps,
		ropeBase:         cfg.RopeBase,
		localRopeBase:    cfg.LocalRopeBase,
		head:             head,
	}, nil
}

func flag(on bool) int32 {
	if on {
		return 1
	}
	return 0
}

func nativeHead(steps []HeadStep) (head [16]cHeadStep, err error) {
	if len(steps) > len(head) {
		return head, fmt.Errorf("mlx: the head has %d steps, at most %d are possible", len(steps), len(head))
	}
	for i, s := range steps {
		c := cHeadStep{out: int32(s.Out), residual: flag(s.Residual), epsilon: s.Epsilon, kind: flag(s.LayerNorm)}
		if len(s.Name) >= len(c.name) {
			return head, fmt.Errorf("mlx: the name %q of a step of the head has %d bytes, at most %d are possible", s.Name, len(s.Name), len(c.name)-1)
		}
		copy(c.name[:], s.Name)
		if !s.LayerNorm {
			if c.activation, err = activationCode(s.Activation); err != nil {
				return head, err
			}
		}
		head[i] = c
	}
	return head, nil
}

func nativeTensors(tensors []Tensor) ([]cTensor, error) {
	native := make([]cTensor, len(tensors))
	for i, t := range tensors {
		dtype, err := tensorCode(t.DType)
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

// labelOf returns the number format that a model reports.
func labelOf(cfg ModelConfig, computed DType) DType {
	switch cfg.WeightBits {
	case 8:
		return Int8W
	case 4:
		return Int4W
	}
	return computed
}

// resolveDType returns the number format of what is computed.
func resolveDType(t DType, d Device) DType {
	if t != AutoDType && t != "" && !isPacked(t) {
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
	case Int8:
		return 3, nil
	}
	return 0, fmt.Errorf("mlx: unknown dtype %q, want float32, float16, bfloat16 or int8", t)
}

// tensorCode is dtypeCode for tensors.
func tensorCode(t DType) (int32, error) {
	switch t {
	case PackedUint32:
		return 4, nil
	case Int8:
		return 0, fmt.Errorf("mlx: a tensor has no dtype %q, want float32, float16, bfloat16 or uint32", t)
	}
	return dtypeCode(t)
}

func activationCode(a Activation) (int32, error) {
	all := []Activation{GELU, GELUTanh, ReLU, SiLU, Tanh, Sigmoid, Identity} // in the order of mlxrank.h
	code := slices.Index(all, a)
	if code < 0 {
		return 0, fmt.Errorf("mlx: unknown activation %q, want one of %v", a, all)
	}
	return int32(code), nil
}
