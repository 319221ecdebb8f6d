package system

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/shirou/gopsutil/v4/process"
)

// Constants of <mach/task_info.h>: the flavor, the number of words in the first
// revision of task_vm_info, and the index of phys_footprint in words of 8 bytes.
const (
	taskVMInfo          = 22
	taskVMInfoRev1Words = 38
	physFootprint       = 144 / 8
)

var mach = sync.OnceValues(func() (calls struct {
	taskSelf func() uint32
	taskInfo func(task uint32, flavor int32, info *uint64, words *uint32) int32
}, err error) {
	library, err := purego.Dlopen("/usr/lib/libSystem.B.dylib", purego.RTLD_LAZY|purego.RTLD_LOCAL)
	if err != nil {
		return calls, err
	}
	for name, f := range map[string]any{"mach_task_self": &calls.taskSelf, "task_info": &calls.taskInfo} {
		symbol, err := purego.Dlsym(library, name)
		if err != nil {
			return calls, err
		}
		purego.RegisterFunc(f, symbol)
	}
	return calls, nil
})

// footprint returns phys_footprint, the figure of Activity Monitor's Memory column.
func footprint(context.Context, *process.Process) (uint64, error) {
	calls, err := mach()
	if err != nil {
		return 0, fmt.Errorf("system: phys_footprint: %w", err)
	}
	info := make([]uint64, 64)
	words := uint32(taskVMInfoRev1Words)
	if status := calls.taskInfo(calls.taskSelf(), taskVMInfo, unsafe.SliceData(info), &words); status != 0 {
		return 0, fmt.Errorf("system: phys_footprint: task_info returned %d", status)
	}
	return info[physFootprint], nil
}

const ioregDeadline = 3 * time.Second

func gpuUtilization(ctx context.Context) (*float64, error) {
	ctx, cancel := context.WithTimeout(ctx, ioregDeadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/sbin/ioreg", "-a", "-r", "-d", "1", "-c", "IOAccelerator").Output()
	if err != nil {
		return nil, fmt.Errorf("system: ioreg: %w", err)
	}
	return deviceUtilization(out)
}
