package mlx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// A Library is libmlxrank, opened and checked. It is open for the life of the
// process.
type Library struct {
	info   Info
	native *functions
	thread *thread
}

// Info says which libraries were found.
type Info struct {
	Path     string   // of libmlxrank
	Tried    []string // "PATH: why not" for each place looked at before Path
	ABI      int      // of libmlxrank
	MLXBuilt string   // MLX version libmlxrank was compiled against
	MLXFound string   // MLX version of the libmlx that was loaded
	MLXC     string   // mlx-c version inside libmlxrank
	MLXPath  string   // of libmlx
	BLAS     string   // behind MLX's CPU backend
	Metallib string   // of MLX's Metal kernels, "" where MLX looks for it by itself
	GPUs     int      // that MLX can use
	CPUs     int      // processors this process may use
}

// loaded are the libraries of this process by file. A library is loaded once
// and kept, since MLX cannot be unloaded.
var loaded = struct {
	sync.Mutex
	byPath map[string]*Library
}{byPath: make(map[string]*Library)}

// Load opens libmlxrank and checks that it, the libmlx beside it and this
// package fit together. An empty path searches: the file named by the
// environment variable MLXRANK_LIBRARY, else the folder of the executable, the
// folders ../lib and ../lib/mlxrank from there, Frameworks and Resources of an
// app bundle, the build folder of the source tree (in a program built without
// -trimpath), and Homebrew's prefix. The first file found is the one used: if it
// is refused, or there is none, that is the error, a [*LoadError]. A file loaded
// before gives the same Library again.
func Load(path string) (*Library, error) {
	loaded.Lock()
	defer loaded.Unlock()
	file, tried, err := find(path)
	if err != nil {
		return nil, err
	}
	l, err := load(file, tried)
	if err != nil {
		return nil, &LoadError{Tried: append(tried, file+": refused"), Err: err}
	}
	return l, nil
}

// Find is the file that Load would open, free of links. It opens nothing, so
// that the file may still be refused.
func Find(path string) (string, error) {
	file, _, err := find(path)
	return file, err
}

// find is Find, and why each place before it was not taken.
func find(path string) (file string, tried []string, err error) {
	for _, candidate := range candidates(path) {
		file, err := existing(candidate)
		switch {
		case err == nil:
			return file, tried, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", nil, &LoadError{Tried: append(tried, candidate+": refused"), Err: err}
		}
		tried = append(tried, candidate+": no such file")
	}
	return "", nil, &LoadError{Tried: tried}
}

// existing is the file that path names, free of links and relative parts.
func existing(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	file, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", err
	}
	status, err := os.Stat(file)
	if err == nil && !status.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", file)
	}
	return file, err
}

func load(file string, tried []string) (*Library, error) {
	if l, ok := loaded.byPath[file]; ok {
		return l, nil
	}
	l := &Library{thread: newThread()}
	var err error
	if closed := l.thread.do(func() { err = l.open(file) }); closed != nil {
		err = closed
	}
	if err != nil {
		l.thread.close()
		return nil, err
	}
	l.info.Tried = tried
	loaded.byPath[file] = l
	return l, nil
}

// open runs on the library's thread. RTLD_LOCAL keeps libmlx's symbols from
// meeting another MLX in the process.
func (l *Library) open(file string) error {
	handle, err := openShared(file)
	switch {
	case errors.Is(err, errThreads):
		return err
	case err != nil:
		return fmt.Errorf("%w (what libmlxrank needs must lie beside it; `make build` puts it there)", err)
	}
	found, err := abiOf(handle)
	if err != nil {
		return err
	}
	if found != abi {
		return fmt.Errorf("%w: %s has ABI %d, this program wants %d; build both from one source",
			ErrMismatch, file, found, abi)
	}
	if l.native, err = bind(handle); err != nil {
		return err
	}
	return l.handshake(file)
}

func (l *Library) handshake(file string) error {
	c := cInfo{size: sizeOf[cInfo]()}
	var b errorBuffer
	err, errLen := b.args()
	if err := b.check("handshake", l.native.handshake(abi, &c, err, errLen)); err != nil {
		return err
	}
	l.info = Info{
		Path:     file,
		ABI:      abi,
		MLXBuilt: text(c.mlxBuilt[:]),
		MLXFound: text(c.mlxFound[:]),
		MLXC:     text(c.mlxC[:]),
		MLXPath:  text(c.mlxPath[:]),
		BLAS:     text(c.blas[:]),
		Metallib: text(c.metallib[:]),
		GPUs:     int(c.gpus),
		CPUs:     int(c.cpus),
	}
	return nil
}

// Info says what Load found.
func (l *Library) Info() Info { return l.info }

// callOn runs f, which makes one native call, on t and turns its status into an
// error.
func callOn(t *thread, name string, f func(err *byte, errLen int32) int32) error {
	var b errorBuffer
	var status int32
	if err := t.do(func() { status = f(b.args()) }); err != nil {
		return err
	}
	return b.check(name, status)
}

// callHere is callOn for a call that any thread may make.
func callHere(name string, f func(err *byte, errLen int32) int32) error {
	var b errorBuffer
	status := f(b.args())
	return b.check(name, status)
}

// DeviceInfo describes a device. What MLX does not tell is "" or 0.
type DeviceInfo struct {
	Name         string
	Architecture string
	Memory       int64 // bytes
	WorkingSet   int64 // bytes MLX recommends to stay under
}

// Device describes the CPU or the GPU; ErrNoDevice if it is not there.
func (l *Library) Device(device Device) (DeviceInfo, error) {
	code, err := l.deviceCode(device)
	if err != nil {
		return DeviceInfo{}, err
	}
	c := cDevice{size: sizeOf[cDevice]()}
	err = callOn(l.thread, "device_info", func(err *byte, errLen int32) int32 {
		return l.native.deviceInfo(code, &c, err, errLen)
	})
	if err != nil {
		return DeviceInfo{}, err
	}
	return DeviceInfo{
		Name:         text(c.name[:]),
		Architecture: text(c.architecture[:]),
		Memory:       c.memory,
		WorkingSet:   c.workingSet,
	}, nil
}

// Memory holds MLX's own memory figures, in bytes, for the whole process, and
// what of the library is open.
type Memory struct {
	Active   int64 // buffers in use
	Cache    int64 // freed buffers kept for reuse
	Peak     int64 // the most in use so far
	Limit    int64 // over which evaluation waits
	Models   int   // open
	Sessions int   // open
	Workers  int   // made so far
}

// Memory reads the figures without waiting for inference.
func (l *Library) Memory() (Memory, error) {
	c := cMemory{size: sizeOf[cMemory]()}
	err := callOn(l.thread, "memory_info", func(err *byte, errLen int32) int32 {
		return l.native.memoryInfo(&c, err, errLen)
	})
	if err != nil {
		return Memory{}, err
	}
	return Memory{
		Active:   c.active,
		Cache:    c.cache,
		Peak:     c.peak,
		Limit:    c.memoryLimit,
		Models:   int(c.models),
		Sessions: int(c.sessions),
		Workers:  int(c.lanes),
	}, nil
}

// SetLimits sets, in bytes, how many freed buffers MLX keeps and how much it
// may use before evaluation waits for running work. A negative value leaves
// that limit as it is.
func (l *Library) SetLimits(cache, memory int64) error {
	return callOn(l.thread, "set_limits", func(err *byte, errLen int32) int32 {
		return l.native.setLimits(cache, memory, err, errLen)
	})
}

// Trim gives cached buffers back to the system and sets the peak to what is in
// use.
func (l *Library) Trim() error {
	return callOn(l.thread, "trim", l.native.trim)
}
