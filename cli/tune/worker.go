package tune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/mlxrank/mlxrank/engine"
	"github.com/mlxrank/mlxrank/internal/system"
	"github.com/mlxrank/mlxrank/internal/telemetry"
)

// measureFlag makes tune a worker: a process that measures one configuration, so that
// its peak of memory is the configuration's own. The worker reads settings and then
// jobs as JSON from standard input, answers each on standard output, and ends with its
// input.
const measureFlag = "measure"

// settings are what an engine of a worker is opened with.
type settings struct {
	Model, Adapter, Label, Library string
	Device                         engine.Device
	DType                          engine.DType
	MaxLength, Threads             int
	MicrobatchTokens               int
	MaxBatch, MaxBatchTokens       int
}

func (s settings) config() engine.Config {
	return engine.Config{
		Model: s.Model, Adapter: s.Adapter, Label: s.Label, Library: s.Library,
		Device: s.Device, DType: s.DType, MaxLength: s.MaxLength, Threads: s.Threads,
		MicrobatchTokens: s.MicrobatchTokens, MaxBatch: s.MaxBatch, MaxBatchTokens: s.MaxBatchTokens,
		Logger: zerolog.Nop(),
	}
}

// A job is a request to score.
type job struct{ Pairs []engine.Pair }

// An answer is the result of a job; of the settings it has Info alone.
type answer struct {
	Error   string
	Info    telemetry.Info
	Threads int // on the CPU
	Tokens  int // of a microbatch
	Scored  int // tokens
	Logits  []float32
	MS      float64
	Peak    uint64 // bytes of the process so far
	GPUPeak int64  // bytes of MLX on a GPU so far
}

// work runs a worker.
func work(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	var s settings
	if err := decoder.Decode(&s); err != nil {
		return fmt.Errorf("tune: reading settings of a worker: %w", err)
	}
	e, err := openReady(ctx, s.config())
	if err != nil {
		return encoder.Encode(answer{Error: err.Error()})
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	info := e.Info()
	if err := encoder.Encode(answer{Info: info.Summary(), Threads: info.Threads, Tokens: info.MicrobatchTokens}); err != nil {
		return err
	}
	for {
		var j job
		if err := decoder.Decode(&j); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("tune: reading a job: %w", err)
		}
		if err := encoder.Encode(score(ctx, e, j)); err != nil {
			return err
		}
	}
}

func openReady(ctx context.Context, config engine.Config) (*engine.Engine, error) {
	e, err := engine.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := e.Ready(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func score(ctx context.Context, e *engine.Engine, j job) answer {
	start := time.Now()
	result, err := e.Score(ctx, j.Pairs)
	if err != nil {
		return answer{Error: err.Error()}
	}
	a := answer{Logits: result.Logits, Scored: result.Tokens, MS: telemetry.Milliseconds(time.Since(start))}
	if a.Peak, err = system.PeakMemory(); err != nil {
		return answer{Error: err.Error()}
	}
	if e.Info().Device == engine.GPU {
		memory, err := e.Memory()
		if err != nil {
			return answer{Error: err.Error()}
		}
		a.GPUPeak = memory.Peak
	}
	return a
}

// A process is a running worker.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	encoder *json.Encoder
	decoder *json.Decoder
	errors  tail
}

// startProcess starts a worker of this program and opens its engine.
func startProcess(ctx context.Context, s settings) (*process, answer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, answer{}, err
	}
	p := &process{cmd: exec.CommandContext(ctx, program, "tune", "--"+measureFlag)}
	p.cmd.Stderr = &p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the parent, which ends its workers
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, answer{}, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, answer{}, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, answer{}, fmt.Errorf("start a process that measures: %w", err)
	}
	p.encoder, p.decoder = json.NewEncoder(p.in), json.NewDecoder(out)
	opened, err := p.call(ctx, s)
	if err != nil {
		p.end()
		return nil, opened, err
	}
	return p, opened, nil
}

// call sends a line to the worker and returns its answer.
func (p *process) call(ctx context.Context, line any) (answer, error) {
	var a answer
	err := p.encoder.Encode(line)
	if err == nil {
		err = p.decoder.Decode(&a)
	}
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case err != nil:
		return a, fmt.Errorf("the process that measures has ended: %w%s", err, p.errors.text())
	case a.Error != "":
		return a, errors.New(a.Error)
	}
	return a, nil
}

// end ends the worker.
func (p *process) end() {
	p.in.Close()         //nolint:errcheck // the worker may have ended already
	p.cmd.Process.Kill() //nolint:errcheck // as above
	p.cmd.Wait()         //nolint:errcheck // reports the kill
}

// A tail keeps the end of what a worker prints to standard error.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(data []byte) (int, error) {
	const most = 2000
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, data...)
	t.kept = t.kept[max(0, len(t.kept)-most):]
	return len(data), nil
}

// text returns what is kept behind a separator, "" if there is nothing.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(string(t.kept))
}
