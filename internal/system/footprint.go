//go:build !darwin

package system

import (
	"context"
	"fmt"

	"github.com/shirou/gopsutil/v4/process"
)

func footprint(ctx context.Context, p *process.Process) (uint64, error) {
	info, err := p.MemoryInfoWithContext(ctx)
	if err != nil {
		return 0, fmt.Errorf("system: resident set: %w", err)
	}
	return info.RSS, nil
}

func gpuUtilization(context.Context) (*float64, error) { return nil, nil }
