package mlx

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// openShared opens a shared library on a locked thread. OpenBLAS raises SIGINT
// as it is loaded when it cannot create its threads, which the program would
// take for its user's. The signal goes to the thread that raises it, so it is
// held back from this one and looked for; one of the user's reaches another.
func openShared(file string) (handle uintptr, err error) {
	interrupt := unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGINT - 1)}}
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &interrupt, &before); err != nil {
		return 0, fmt.Errorf("hold SIGINT back: %w", err)
	}
	handle, err = purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
	raised, taking := takeRaised(&interrupt)
	if restoring := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); restoring != nil || taking != nil {
		return 0, fmt.Errorf("look for a signal of OpenBLAS: %w", errors.Join(taking, restoring))
	}
	if raised {
		return 0, threadsError()
	}
	return handle, err
}

// takeRaised takes a pending signal of the set, and reports whether this process
// raised it itself. Another is sent on.
func takeRaised(set *unix.Sigset_t) (bool, error) {
	const tkill = -6 // SI_TKILL: by the process itself, to one thread
	var info unix.Siginfo
	var now unix.Timespec
	signal, _, errno := unix.Syscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(&info)),
		uintptr(unsafe.Pointer(&now)), 8, 0, 0)
	switch {
	case errno == unix.EAGAIN: // none
		return false, nil
	case errno != 0:
		return false, errno
	case info.Code == tkill:
		return true, nil
	}
	return false, unix.Kill(unix.Getpid(), unix.Signal(signal))
}

// threadsError is errThreads with the limit of this user.
func threadsError() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil || limit.Cur == unix.RLIM_INFINITY {
		return errThreads
	}
	return fmt.Errorf("%w (ulimit -u is %d)", errThreads, limit.Cur)
}
