package mlx

import "github.com/ebitengine/purego"

// osThread is the calling thread's number to the kernel.
func osThread() int {
	var self func() uintptr
	var port func(uintptr) uint32
	purego.RegisterLibFunc(&self, purego.RTLD_DEFAULT, "pthread_self")
	purego.RegisterLibFunc(&port, purego.RTLD_DEFAULT, "pthread_mach_thread_np")
	return int(port(self()))
}
