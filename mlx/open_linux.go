package mlx

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// LibraryFile is the file name of libmlxrank.
const LibraryFile = "libmlxrank.so"

// openShared opens a shared library on a locked thread. If OpenBLAS cannot create
// its threads while it is loaded, it raises SIGINT, which the program would take
// for the user's interrupt. raise sends the signal to the calling thread, so
// openShared blocks it there and checks whether it is pending. The user's SIGINT
// reaches another thread.
func openShared(file string) (handle uintptr, err error) {
	interrupt := unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGINT - 1)}}
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &interrupt, &before); err != nil {
		return 0, fmt.Errorf("block SIGINT: %w", err)
	}
	handle, err = purego.Dlopen(file, purego.RTLD_NOW|purego.RTLD_LOCAL)
	raised, taking := takeRaised(&interrupt)
	if restoring := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); restoring != nil || taking != nil {
		return 0, fmt.Errorf("check for OpenBLAS's SIGINT: %w", errors.Join(taking, restoring))
	}
	if raised {
		return 0, threadsError()
	}
	return handle, err
}

// takeRaised takes a pending signal of the set and reports whether this process
// raised it. It sends any other signal to the process again.
func takeRaised(set *unix.Sigset_t) (bool, error) {
	const tkill = -6 // SI_TKILL: sent by the process itself to one thread
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

// threadsError returns errThreads with this user's limit.
func threadsError() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil || limit.Cur == unix.RLIM_INFINITY {
		return errThreads
	}
	return fmt.Errorf("%w (ulimit -u is %d)", errThreads, limit.Cur)
}

// thisMachine returns no facts: MLX has one build for Linux.
func thisMachine() machine { return machine{} }
