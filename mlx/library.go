package mlx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// Library is libmlxrank, opened and checked. It stays open until the process ends.
type Library struct {
	machine
	info   Info
	native *functions
	thread *thread
}

// Info describes the libraries that Load found.
type Info struct {
	Path     string   // file of libmlxrank
	Tried    []string // "PATH: reason" for each path tried before Path
	ABI      int      // ABI number of libmlxrank
	MLXBuilt string   // MLX version that libmlxrank was compiled against
	MLXFound string   // MLX version of the libmlx that was loaded
	MLXC     string   // mlx-c version inside libmlxrank
	MLXPath  string   // file of libmlx
	BLAS     string   // BLAS that MLX's CPU backend uses
	Metallib string   // file of MLX's Metal kernels, "" if MLX finds it itself
	Build    Build    // of MLX for macOS; "" elsewhere
	BuildWhy string   // why this build was loaded, "" if there was no choice
	NAX      bool     // MLX computes with kernels for the matrix units of M5's GPU
	GPUs     int      // GPUs that MLX can use
	CPUs     int      // processors this process may use
}

// loaded holds this process's libraries by file. A library is loaded once and
// kept, because MLX cannot be unloaded.
var loaded = struct {
	sync.Mutex
	byPath map[string]*Library
}{byPath: make(map[string]*Library)}

// Load opens libmlxrank and checks that its ABI and the version of libmlx match
// this package. If path is empty, Load takes the file that the environment
// variable MLXRANK_LIBRARY names, or else the first file found in: the folder of
// the executable, its ../lib and ../lib/mlxrank, an app bundle's Frameworks and
// Resources, the build folder of the source tree (in a program built without
// -trimpath), and Homebrew's prefix. On macOS the build of MLX for
// macOS 26.2 is taken from the folder macos26 beside the file that was found, where
// the GPU has matrix units and the system can use them; BuildEnv forces a build. Load
// returns a [*LoadError] if there is no file or the first one is refused. Loading a file again returns the same Library.
func Load(path string) (*Library, error) {
	loaded.Lock()
	defer loaded.Unlock()
	file, tried, err := find(path)
	if err != nil {
		return nil, err
	}
	m, picked, why := thisMachine(), file, ""
	if path == "" && os.Getenv(LibraryEnv) == "" && runtime.GOOS == "darwin" {
		if picked, why, err = pickBuild(m, file); err != nil {
			return nil, &LoadError{Tried: append(tried, file+": refused"), Err: err}
		}
	}
	l, err := load(m, picked, tried, why)
	if err != nil && picked != file && os.Getenv(BuildEnv) == "" {
		tried = append(tried, fmt.Sprintf("%s: refused: %v", picked, err))
		l, err = load(m, file, tried, "the newer build cannot be loaded")
		picked = file
	}
	if err != nil {
		return nil, &LoadError{Tried: append(tried, picked+": refused"), Err: err}
	}
	return l, nil
}

// pickBuild returns the file of the build that fits the machine, and the reason.
func pickBuild(m machine, file string) (picked, why string, err error) {
	newer, err := existing(newerFile(file))
	found := err == nil
	reason := ""
	if found {
		reason = refused(m, newer)
	}
	build, why, err := chooseBuild(m, os.Getenv(BuildEnv), found, reason)
	if build == Newer {
		file = newer
	}
	return file, why, err
}

// Find returns the file that Load would open, with links resolved. Find does not
// open it, so Load may still refuse it. On macOS Load may open the newer build in
// the folder of that file.
func Find(path string) (string, error) {
	file, _, err := find(path)
	return file, err
}

// find also returns why each path before file was not taken.
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

// existing returns the absolute path of the file, with links resolved.
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

func load(m machine, file string, tried []string, why string) (*Library, error) {
	if l, ok := loaded.byPath[file]; ok {
		return l, nil
	}
	l := &Library{machine: m, thread: newThread()}
	var err error
	if closed := l.thread.do(func() { err = l.open(file) }); closed != nil {
		err = closed
	}
	if err != nil {
		l.thread.close()
		return nil, err
	}
	l.info.Tried, l.info.BuildWhy, l.info.Build = tried, why, buildOf(file, runtime.GOOS)
	if l.info.GPUs > 0 && l.info.Build == Newer {
		device, err := l.Device(GPU)
		l.info.NAX = err == nil && usesNAX(l.info.Build, m, device.Architecture)
	}
	loaded.byPath[file] = l
	return l, nil
}

// open runs on the library's thread. RTLD_LOCAL keeps libmlx's symbols apart from
// another MLX in the process.
func (l *Library) open(file string) error {
	handle, err := openShared(file)
	switch {
	case errors.Is(err, errThreads):
		return err
	case err != nil:
		return fmt.Errorf("%w (libmlxrank's own libraries must be in its folder; `make build` puts them there)", err)
	}
	found, err := readABI(handle)
	if err != nil {
		return err
	}
	if found != abi {
		return fmt.Errorf("%w: %s has ABI %d, this program wants %d; build both from the same source",
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

// Info returns what Load found.
func (l *Library) Info() Info { return l.info }

// callOn runs f, which makes one native call, on t. It turns the call's status
// into an error.
func callOn(t *thread, name string, f func(err *byte, errLen int32) int32) error {
	var b errorBuffer
	var status int32
	if err := t.do(func() { status = f(b.args()) }); err != nil {
		return err
	}
	return b.check(name, status)
}

// callHere makes a native call on the calling thread, as callOn does on t.
func callHere(name string, f func(err *byte, errLen int32) int32) error {
	var b errorBuffer
	status := f(b.args())
	return b.check(name, status)
}

// DeviceInfo describes a device. A field that MLX does not report is "" or 0.
type DeviceInfo struct {
	Name         string
	Architecture string
	Memory       int64 // bytes
	WorkingSet   int64 // bytes MLX recommends to stay under
}

// Device describes the CPU or the GPU. It returns ErrNoDevice if MLX cannot use
// that device.
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

// Memory holds MLX's own memory figures for the whole process in bytes, and how
// many models, sessions and workers there are.
type Memory struct {
	Active   int64 // buffers in use
	Cache    int64 // freed buffers kept for reuse
	Peak     int64 // highest value of Active so far
	Limit    int64 // above it, evaluation waits for running work
	Models   int   // open
	Sessions int   // open
	Workers  int   // worker threads started so far
}

// Memory returns the figures. It does not wait for inference.
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
		Workers:  int(c.workers),
	}, nil
}

// SetLimits sets limits in bytes: cache for freed buffers that MLX keeps, and
// memory above which evaluation waits for running work. A negative value leaves
// that limit as it is.
func (l *Library) SetLimits(cache, memory int64) error {
	return callOn(l.thread, "set_limits", func(err *byte, errLen int32) int32 {
		return l.native.setLimits(cache, memory, err, errLen)
	})
}

// Trim returns cached buffers to the system and sets Memory.Peak to Memory.Active.
func (l *Library) Trim() error {
	return callOn(l.thread, "trim", l.native.trim)
}
