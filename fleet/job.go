package fleet

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/mlxrank/mlxrank/engine"
)

// Version is the version of the protocol. Submitters and workers of different versions
// do not work on the same job.
const Version = 1

// State describes how far a job is.
type State string

// The states. Workers take parts of jobs that are uploading or open.
const (
	Uploading State = "uploading" // the submitter adds parts
	Open      State = "open"      // all parts are in the store
	Done      State = "done"      // the submitter has the output
	Cancelled State = "cancelled"
)

// Active reports whether workers take parts of a job in this state.
func (s State) Active() bool { return s == Uploading || s == Open }

// A Job describes the pairs to score and what their scores depend on. It has no texts.
type Job struct {
	Version  int      `json:"version"`
	ID       string   `json:"id"`
	State    State    `json:"state"`
	Settings Settings `json:"settings"`
	// Identity is the submitter's. A worker is admitted if its own agrees.
	Identity Identity `json:"identity"`
	// Tolerance is the largest difference of a logit from the submitter's that admits a
	// worker. With 0 the device class must be the same and logits equal.
	Tolerance float64 `json:"tolerance"`
	Input     Input   `json:"input"`
	Parts     int     `json:"parts"` // known when the state is Open
	// Store is the folder or bucket with the job's data, "" for JetStream's object store.
	Store string `json:"store,omitempty"`
	// AckWait is the time after which a part whose worker is silent goes to another
	// worker. A part fails for good after MaxDeliver deliveries.
	AckWait    time.Duration `json:"ack_wait"`
	MaxDeliver int           `json:"max_deliver"`
	// Submitter is what the program that submits the job wants to find again.
	Submitter json.RawMessage `json:"submitter,omitempty"`

	Started time.Time `json:"started"` // by the submitter's clock

	revision uint64
}

// Input identifies the input of a job.
type Input struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // of the decompressed input
	Pairs  int    `json:"pairs"`  // to score
}

// Settings are what a worker needs to open a job's model.
type Settings struct {
	Model       string              `json:"model"` // builtin, a hub id with its revision, or a folder
	Adapter     string              `json:"adapter,omitempty"`
	DType       engine.DType        `json:"dtype"`
	MaxLength   int                 `json:"max_length"`
	Activation  engine.Activation   `json:"activation"`
	Label       string              `json:"label,omitempty"`
	Long        engine.Long         `json:"long"`
	Calibration *engine.Calibration `json:"calibration,omitempty"`
}

// key identifies the engine that the settings need.
func (s Settings) key() string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // plain fields
	}
	return string(data)
}

// Identity is what scores depend on besides the pairs and the settings.
type Identity struct {
	Program string       `json:"program"` // version of mlxrank
	Model   string       `json:"model"`   // hash of the model's contents
	DType   engine.DType `json:"dtype"`
	Class   string       `json:"class"` // device class: the device and its kernels
}

// A Part describes consecutive records of a job's input. It is the message that workers
// receive.
type Part struct {
	Version   int          `json:"version"`
	Job       string       `json:"job"`
	Index     int          `json:"index"`
	From      int64        `json:"from"` // byte range in the decompressed input
	To        int64        `json:"to"`
	Pairs     int          `json:"pairs"`
	SHA256    string       `json:"sha256"` // of the pairs' object
	Model     string       `json:"model"`  // hash of the model's contents
	DType     engine.DType `json:"dtype"`
	MaxLength int          `json:"max_length"`
}

func (p Part) pairsName() string { return fmt.Sprintf("pairs/%06d", p.Index) }

// A Commit is the finished result of a part.
type Commit struct {
	Object  string        `json:"object"` // name of the result
	SHA256  string        `json:"sha256"`
	Worker  string        `json:"worker"`
	Elapsed time.Duration `json:"elapsed"`
	Pairs   int           `json:"pairs"`
	Failed  int           `json:"failed"` // pairs that could not be scored
}

// A Failure is why a part was not finished.
type Failure struct {
	Worker     string `json:"worker"`
	Reason     string `json:"reason"`
	Deliveries int    `json:"deliveries"`
	Final      bool   `json:"final"` // the part is not delivered again
}

// Score is the result of a pair.
type Score struct {
	Score, Logit float32
	Err          string // why the pair has no score, "" if it has one
}
