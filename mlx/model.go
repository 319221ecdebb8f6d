package mlx

import (
	"errors"
	"fmt"
	"runtime"
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
	// Variant names one of Model.Variants; the default is the first.
	Variant string
}

// Model holds a model's weights on a device. Any number of sessions compute with
// them.
type Model struct {
	library *Library
	handle  atomic.Int64 // 0 once closed
	device  Device
	dtype   DType
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
	m.dtype = resolveDType(opts.DType, m.device)
	config, err := m.config(cfg)
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
// returns ErrInvalid if there is no such variant.
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

func (m *Model) config(cfg ModelConfig) (cConfig, error) {
	device, err := m.library.deviceCode(m.device)
	if err != nil {
		return cConfig{}, err
	}
	dtype, err := dtypeCode(m.dtype)
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
