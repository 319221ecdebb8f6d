package mlx

import (
	"bytes"
	"unsafe"

	"github.com/ebitengine/purego"
)

// abi is MLXRANK_ABI of the mlxrank.h that this file mirrors.
const abi = 9

const (
	statusOK        = 0
	statusInvalid   = 1
	statusMismatch  = 2
	statusNoDevice  = 3
	statusBusy      = 6
	statusNotFinite = 7
)

// The structs of mlxrank.h. Each begins with its size, which the library checks.
// abi_test.go compares the layouts with the C compiler's.
type cInfo struct {
	size     int32
	gpus     int32
	cpus     int32
	_        int32
	mlxBuilt [32]byte
	mlxFound [32]byte
	mlxC     [32]byte
	mlxPath  [1024]byte
	blas     [256]byte
	metallib [1024]byte
}

type cDevice struct {
	size         int32
	_            int32
	memory       int64
	workingSet   int64
	name         [128]byte
	architecture [64]byte
}

type cMemory struct {
	size        int32
	models      int32
	sessions    int32
	workers     int32
	active      int64
	cache       int64
	peak        int64
	memoryLimit int64
}

type cConfig struct {
	size             int32
	device           int32
	dtype            int32
	activation       int32
	vocabSize        int32
	hiddenSize       int32
	layers           int32
	heads            int32
	intermediateSize int32
	maxPositions     int32
	typeVocabSize    int32
	labels           int32
	embeddingSize    int32
	firstPosition    int32
	preNorm          int32
	gated            int32
	window           int32
	globalEvery      int32
	pooling          int32
	headSteps        int32
	weightBits       int32
	weightGroup      int32
	layerNormEps     float64
	ropeBase         float64
	localRopeBase    float64
	head             [16]cHeadStep
}

type cHeadStep struct {
	name       [96]byte
	kind       int32
	out        int32
	activation int32
	residual   int32
	epsilon    float64
}

type cTensor struct {
	name  *byte
	data  *byte
	bytes int64
	dtype int32
	rank  int32
	shape [2]int64
}

type cOptions struct {
	size    int32
	threads int32
	variant *byte
}

type cVariants struct {
	size  int32
	count int32
	names [16][32]byte
}

type cLayout struct {
	size             int32
	unpadded         int32
	grid             int32
	workers          int32
	microbatchTokens int32
	_                int32
	kernels          [32]byte
	variant          [32]byte
}

type cBatch struct {
	size            int32
	pairs           int32
	tokens          int64
	ids             *int32
	typeIDs         *int32
	lengths         *int32
	microbatches    *int32
	microbatchCount int32
	_               int32
}

type cMicrobatch struct {
	worker         int32
	pairs          int32
	tokens         int64
	computedTokens int64
	startNs        int64
	finishNs       int64
}

type cStats struct {
	size           int32
	microbatchRoom int32
	microbatches   *cMicrobatch
	tokens         int64
	computedTokens int64
	executeNs      int64
}

type cProfile struct {
	size                 int32
	workers              int32
	pairs                int64
	tokens               int64
	busyNs               int64
	passNs               int64
	helpedNs             int64
	matmulFlopsNeeded    int64
	attentionFlopsNeeded int64
	ns                   [7]int64
	calls                [7]int64
	flops                [7]int64
}

type cMatmul struct {
	part     int32
	left     int32
	right    int32
	computed int32
	bits     int32
	_        int32
	count    int64
}

type cMatmuls struct {
	size  int32
	count int32
	kinds [32]cMatmul
}

// functions holds libmlxrank's entry points, one field per symbol.
type functions struct {
	handshake    func(abi int32, info *cInfo, err *byte, errLen int32) int32
	deviceInfo   func(device int32, out *cDevice, err *byte, errLen int32) int32
	memoryInfo   func(out *cMemory, err *byte, errLen int32) int32
	setLimits    func(cache, memory int64, err *byte, errLen int32) int32
	trim         func(err *byte, errLen int32) int32
	modelOpen    func(config *cConfig, tensors *cTensor, count int32, model *int64, err *byte, errLen int32) int32
	modelClose   func(model int64, err *byte, errLen int32) int32
	variants     func(model int64, out *cVariants, err *byte, errLen int32) int32
	sessionOpen  func(model int64, options *cOptions, session *int64, err *byte, errLen int32) int32
	layout       func(session int64, out *cLayout, err *byte, errLen int32) int32
	matmuls      func(session int64, out *cMatmuls, err *byte, errLen int32) int32
	profile      func(session int64, on int32, err *byte, errLen int32) int32
	profileRead  func(session int64, out *cProfile, err *byte, errLen int32) int32
	sessionClose func(session int64, err *byte, errLen int32) int32
	submit       func(session int64, batch *cBatch, ticket *int64, err *byte, errLen int32) int32
	activations  func(session int64, ids, typeIDs *int32, length int32, file, err *byte, errLen int32) int32
	collect      func(session, ticket int64, out *float32, outLen int64, stats *cStats, err *byte, errLen int32) int32
}

// readABI asks the opened library for its ABI number. It looks up no other symbol,
// because a library with another ABI may lack some.
func readABI(handle uintptr) (int, error) {
	symbol, err := purego.Dlsym(handle, "mlxrank_abi")
	if err != nil {
		return 0, err
	}
	var number func() int32
	purego.RegisterFunc(&number, symbol)
	return int(number()), nil
}

// bind looks up every symbol except mlxrank_abi.
func bind(handle uintptr) (*functions, error) {
	f := new(functions)
	for name, field := range map[string]any{
		"mlxrank_handshake":            &f.handshake,
		"mlxrank_device_info":          &f.deviceInfo,
		"mlxrank_memory_info":          &f.memoryInfo,
		"mlxrank_set_limits":           &f.setLimits,
		"mlxrank_trim":                 &f.trim,
		"mlxrank_model_open":           &f.modelOpen,
		"mlxrank_model_close":          &f.modelClose,
		"mlxrank_model_variants":       &f.variants,
		"mlxrank_session_open":         &f.sessionOpen,
		"mlxrank_session_layout":       &f.layout,
		"mlxrank_session_matmuls":      &f.matmuls,
		"mlxrank_session_profile":      &f.profile,
		"mlxrank_session_profile_read": &f.profileRead,
		"mlxrank_session_close":        &f.sessionClose,
		"mlxrank_submit":               &f.submit,
		"mlxrank_collect":              &f.collect,
		"mlxrank_debug_activations":    &f.activations,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, err
		}
		purego.RegisterFunc(field, symbol)
	}
	return f, nil
}

// errorBuffer receives the message of a call that fails.
type errorBuffer [2048]byte

func (b *errorBuffer) args() (*byte, int32) { return &b[0], int32(len(b)) }

// check turns a call's status into an error.
func (b *errorBuffer) check(call string, status int32) error {
	if status == statusOK {
		return nil
	}
	return &NativeError{Call: call, Status: int(status), Text: text(b[:])}
}

// text returns the NUL-terminated string at the start of field.
func text(field []byte) string {
	if i := bytes.IndexByte(field, 0); i >= 0 {
		field = field[:i]
	}
	return string(field)
}

func sizeOf[T any]() int32 {
	var v T
	return int32(unsafe.Sizeof(v))
}

// first returns a pointer to a slice's first element, nil if the slice is empty.
func first[T any](s []T) *T { return unsafe.SliceData(s) }
