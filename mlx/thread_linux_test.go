package mlx

import "syscall"

func osThread() int { return syscall.Gettid() }
