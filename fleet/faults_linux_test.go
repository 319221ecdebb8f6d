package fleet

import (
	"os"
	"os/exec"
	"syscall"
)

// mountTmpfs mounts a tmpfs over a folder, which it makes.
func mountTmpfs(dir, options string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syscall.Mount("none", dir, "tmpfs", 0, options)
}

// inNamespaces starts a process as the root of user and other namespaces of its own.
func inNamespaces(flags uintptr) func(*exec.Cmd) {
	return func(command *exec.Cmd) {
		command.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | flags,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
	}
}
