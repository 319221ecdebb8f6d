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

// A Device computes.
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
)

// An Activation makes a score from logits. Info may name others, from the
// model's files.
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
	Label      string // of several, by name or number: the one whose logit makes the score
	BuiltinDir string // directory of the encoder of "builtin"; "" searches
	Library    string // path of libmlxrank; "" searches as mlx.Load does
	Threads    int    // CPU threads that compute; 0 is system.Processors(): the affinity, or the CPU quota if that is smaller
	Logger     zerolog.Logger
	// OmitRequestEvents leaves out the debug event of each request, for a caller
	// that logs requests itself.
	OmitRequestEvents bool

	TokenizerWorkers int // 0 is as many as Threads
	// MaxBatch and MaxBatchTokens bound a batch: its pairs, and the tokens
	// computed for it, padding included. A batch has room for one pair of
	// MaxLength at least. 0 is 256 pairs, and 2,048 tokens on the CPU or 16,384 on
	// a GPU.
	MaxBatch       int
	MaxBatchTokens int
	// Lab has settings for benchmarks of this module; other programs leave it nil.
	Lab *lab.Options
	// QueueTokens caps the tokens of all admitted requests; a pair that is not
	// tokenised yet counts as its maximum. Requests above the cap are refused with
	// ErrOverloaded. 0 is 16,777,216: 32,768 pairs of 512 tokens.
	QueueTokens int
	// CacheLimit is how many bytes of freed buffers MLX keeps for reuse: 0 is
	// 512 MiB on a GPU and MLX's own limit, 32 MiB, on the CPU; a negative number
	// leaves it as it is. Above MemoryLimit bytes in use, new work waits
	// until running work finishes; 0 leaves it as it is. MLX has one of each for the whole
	// process.
	CacheLimit  int64
	MemoryLimit int64
	// IdleUnload closes the session after so long without a request, which frees the
	// model's memory. The next request waits until it is opened again. 0 is never.
	IdleUnload time.Duration
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
	// Logits are the label's, in the same order, as the classifier gave them. With
	// softmax they are the label's log-odds, whose sigmoid is its probability: the
	// order by them is that of the scores, before these are rounded.
	Logits         []float32
	ByLabel        [][]LabelScore // of every pair, by every label in the order of Info.Labels, where ScoreOptions.AllLabels asks for it
	Timings        Timings
	Truncated      int // pairs that were longer than the maximum length
	Distinct       int // pairs executed: identical ones are executed once
	Tokens         int // real tokens
	ComputedTokens int // rows computed, padding included
	Batches        int
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
	Kernels        string // "MLX", or the instruction set of our own kernels
	Threads        int    // that compute on the CPU; 0 on a GPU
	Unpadded       bool   // tokens are computed without padding
	MaxLength      int
	Activation     Activation // what makes the scores: "raw", "sigmoid", "softmax", or what else the model's files name
	Label          string     // scored by, "" where the model has but one
	Labels         []string   // all of them, nil where the model has but one
	Prompt         string     // of the model's files, put ahead of every query
	TruncationSide Truncation // where long pairs are cut unless a request says otherwise
	Library        Library
	Startup        Startup

	MaxBatch       int
	MaxBatchTokens int
	QueueTokens    int
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
	info      Info
	scorer    scorer
	profiled  bool
	log       zerolog.Logger
	library   *mlx.Library
	tokenizer *tokenizer
	pipeline  *pipeline
	close     func() error
}

// Info returns what the engine runs.
func (e *Engine) Info() Info { return e.info }

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

// closeOnce is Close the first time.
func (e *Engine) closeOnce() func() error {
	return sync.OnceValue(func() error {
		return errors.Join(e.pipeline.close(), e.tokenizer.close())
	})
}
