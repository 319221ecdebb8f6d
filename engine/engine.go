package engine

import (
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/internal/lab"
	"github.com/mlxrank/mlxrank/mlx"
)

// A Device names where a model is computed.
type Device string

// The devices of Config and Info.
const (
	DeviceAuto Device = "auto" // the GPU where there is one
	GPU        Device = "gpu"
	CPU        Device = "cpu"
)

// A DType is the number format that a model is computed in.
type DType string

// The number formats of Config and Info.
const (
	DTypeAuto DType = "auto" // the default of the device
	Float32   DType = "float32"
	Float16   DType = "float16"
	BFloat16  DType = "bfloat16"
	Int8      DType = "int8"  // matmuls of the encoder, on a CPU only; the rest is float32
	Int8W     DType = "int8w" // small weights of 8 bits: float16 on a GPU, float32 on the CPU
	Int4W     DType = "int4w" // likewise of 4 bits
)

// An Activation names the function that makes a score from logits. Info may name
// other functions than the constants, from the model's files.
type Activation string

// The activations that a caller may choose.
const (
	ActivationAuto Activation = "auto" // the model's
	Raw            Activation = "raw"
	SigmoidScores  Activation = "sigmoid"
	Softmax        Activation = "softmax" // over several labels
)

// A Download reports how far the download of a file of a model is.
type Download struct {
	Model string
	File  string
	Done  int64 // bytes
	Total int64 // bytes
}

// Config selects a model, a device and limits. Model is required. Empty strings
// and zeros select the default, and the zero Logger logs nothing.
type Config struct {
	Model      string // "builtin", a directory, or a model of the Hugging Face hub: org/name[@revision]
	Adapter    string // directory of a PEFT LoRA adapter to merge, "" for none
	Device     Device
	DType      DType
	MaxLength  int // tokens of a pair, at least 3; 0 is the model's own
	Activation Activation
	Label      string // label that makes the score, by name or zero-based index; required if the model has several
	// Calibration makes scores from logits: it is for this model, which must have one
	// label, and for the activations auto, which becomes sigmoid, and sigmoid. nil for none.
	Calibration *Calibration
	BuiltinDir  string // directory of the encoder of "builtin"; "" searches
	Library     string // path of libmlxrank; "" searches as mlx.Load does
	Threads     int    // CPU threads that compute; 0 is system.Processors(): the affinity, or the CPU quota if that is smaller
	Logger      zerolog.Logger
	// OmitRequestEvents leaves out the debug event of each request, for a caller
	// that logs requests itself.
	OmitRequestEvents bool

	TokenizerWorkers int // 0 is as many as Threads
	// MaxBatch limits the pairs of a batch, and MaxBatchTokens the tokens computed
	// for it, padding included, which must be enough for one pair of MaxLength. 0 is
	// 256 pairs, and 2,048 tokens on the CPU or 16,384 on a GPU; a longer pair is a
	// batch of its own then.
	MaxBatch       int
	MaxBatchTokens int
	// MicrobatchTokens limits the tokens that one worker computes together, padding
	// included; a longer pair is a microbatch of its own. 0 is what the library recommends
	// for the device: 512 on the CPU.
	MicrobatchTokens int
	// BatchTimeout is the longest time that a batch waits for more pairs when the device
	// is free. It makes larger batches where many small requests come, at the cost of
	// latency. A full batch does not wait, nor does one whose deadline is near. With 0, the
	// default, a free device takes the waiting pairs at once.
	BatchTimeout time.Duration
	// Lab has settings for benchmarks of this module; other programs leave it nil.
	Lab *lab.Options
	// QueueTokens caps the tokens of all admitted requests; a pair that is not
	// tokenised yet counts as its maximum. Requests above the cap are refused with
	// ErrOverloaded. 0 is 16,777,216: 32,768 pairs of 512 tokens.
	QueueTokens int
	// CacheLimit is how many bytes of freed buffers MLX keeps for reuse. 0 is
	// 512 MiB on a GPU and 8 MiB on the CPU; a negative number changes nothing. Above
	// MemoryLimit bytes in use, new work waits until running work finishes; 0 changes
	// nothing. Both limits hold for the whole process.
	CacheLimit  int64
	MemoryLimit int64
	// IdleUnload is the time without a request after which the engine closes its
	// session, which frees the model's memory. The next request waits until the
	// session is open again. 0 never closes it.
	IdleUnload time.Duration
	// Cache keeps logits, so that a pair is computed once; nil for none. Several engines
	// may have the same one. It must outlive the engine. An engine with Lab ignores it.
	Cache Cache
	// Progress, if set, receives the progress of a download from the hub, from one
	// goroutine at a time. It may still be called shortly after Open has
	// returned because its context ended.
	Progress func(Download)
}

// A Pair is one query and one document, in UTF-8. Invalid bytes and NUL
// count as U+FFFD. Either text may be empty.
type Pair struct {
	Query    string
	Document string
}

// A Result holds the scores of one request.
type Result struct {
	Scores []float32 // after the activation, in the order of the pairs; 0 to 1 if that is sigmoid or softmax
	// Logits are the classifier's outputs for the label, in the same order. With
	// softmax they are the label's log-odds: their sigmoid is the label's probability.
	// Logits order documents as scores do, also where scores are rounded to the same
	// number.
	Logits         []float32
	ByLabel        [][]LabelScore // [pairs][labels], labels in the order of Info.Labels; nil without ScoreOptions.AllLabels
	Timings        Timings
	Unscored       []int // indexes of the pairs without a score, which is NaN; nil without ScoreOptions.Partial
	Truncated      int   // pairs that were longer than the maximum length
	Distinct       int   // distinct pairs: identical ones are executed once
	Tokens         int   // real tokens of executed pairs
	ComputedTokens int   // rows computed, padding included
	Batches        int

	// With Config.Cache: the distinct pairs that were not executed for this request,
	// because their logits were known or another request computed them, the ones that
	// were executed, and the tokens of the former.
	CacheHits    int
	CacheMisses  int
	CachedTokens int
}

// A LabelScore is a pair's score and logit for one label, as in Result.Scores and
// Result.Logits.
type LabelScore struct {
	Score float32
	Logit float32
}

// Info describes what an engine runs.
type Info struct {
	Model          string // as given
	Dir            string // where its files are
	Adapter        string // merged into it, "" if none
	Device         Device
	DeviceName     string
	DType          DType
	Matmuls        []string // of a pass when the session was opened, counted by operands: "25 float32 x float32 (encoder)"
	Kernels        string   // "MLX", or the instruction set of our own kernels
	Choice         Choice   // the variant of the unfused graph, and its times; its source is "" until it is chosen
	Threads        int      // that compute on the CPU; 0 on a GPU
	Unpadded       bool     // tokens are computed without padding
	MaxLength      int
	Activation     Activation   // function that makes the scores: "raw", "sigmoid", "softmax", or another one that the model's files name
	Label          string       // label that makes the score, "" if the model has only one
	Labels         []string     // all labels, nil if the model has only one
	Calibration    *Calibration // of the scores, nil for none; do not change it
	Prompt         string       // text from the model's files that is put before every query
	TruncationSide Truncation   // where long pairs are cut if a request does not name a side
	WeightBytes    int64        // of the weights in the number format of the device; activations and MLX's cache come on top
	Library        Library
	Startup        Startup
	Cache          *CacheInfo // nil without one; do not change it

	MaxBatch         int
	MaxBatchTokens   int
	MicrobatchTokens int
	QueueTokens      int
}

// Library describes the libraries that an engine runs on.
type Library struct {
	Path     string // file of libmlxrank
	ABI      int    // ABI number of libmlxrank
	MLX      string // version of the libmlx that was loaded
	MLXC     string // version of mlx-c inside libmlxrank
	MLXPath  string // file of libmlx
	BLAS     string // that MLX's CPU backend uses
	Metallib string // file of MLX's Metal kernels, "" if MLX finds it itself
	Build    string // of MLX for macOS: "macos14" or "macos26"; "" elsewhere
	NAX      bool   // MLX computes with kernels for the matrix units of M5's GPU
}

// Startup divides the time of Open. Parts overlap, so they add up to more than
// Total.
type Startup struct {
	Library   time.Duration // finding, opening and checking libmlxrank
	Weights   time.Duration // reading, verifying and merging
	Tokenizer time.Duration
	Session   time.Duration // copying the weights to the device
	Total     time.Duration
}

// An Engine holds one model on one device.
type Engine struct {
	info      Info // but what the choice of a variant changes
	scorer    scorer
	profiled  bool
	log       zerolog.Logger
	library   *mlx.Library
	tokenizer *tokenizer
	pipeline  *pipeline
	close     func() error

	microbatchTokens int // of Config

	fingerprint func() (string, error) // of the model's contents
	modelHash   func() (string, error)

	caching *caching // nil without Config.Cache

	architecture string // of the device, "" if MLX does not report it
}

// Info returns what the engine runs. It does not wait for the choice of a variant.
func (e *Engine) Info() Info {
	info, p := e.info, e.pipeline
	p.mu.Lock()
	defer p.mu.Unlock()
	info.Choice = p.costs.Choice
	info.Kernels, info.Unpadded = p.layout.Kernels, p.layout.Unpadded
	info.MicrobatchTokens = p.layout.MicrobatchTokens
	return info
}

// Trim returns unused memory to the system: MLX's cached buffers and Go's garbage.
// Apps call it when the system warns that memory is short.
func (e *Engine) Trim() error {
	err := e.library.Trim()
	debug.FreeOSMemory()
	return err
}

// Close refuses new requests, waits for live ones, and frees the model.
// A second call waits for the first and returns its error.
func (e *Engine) Close() error { return e.close() }

// closeOnce returns the function that Close calls; it closes the engine once.
func (e *Engine) closeOnce() func() error {
	return sync.OnceValue(func() error {
		err := errors.Join(e.pipeline.close(), e.tokenizer.close())
		if e.caching != nil {
			e.caching.flights.running.Wait()
		}
		return err
	})
}
