package bench

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/host"
	hostload "github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/bench/results"
)

// environment describes the machine. Unknown fields stay empty.
func environment(program string, log zerolog.Logger) results.Environment {
	e := results.Environment{Program: program, Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU()}
	chips, err := cpu.Info()
	if err == nil && len(chips) > 0 {
		e.Chip = strings.Join(strings.Fields(chips[0].ModelName), " ")
	}
	memory, memoryErr := mem.VirtualMemory()
	if memoryErr == nil {
		e.Memory = int64(memory.Total)
	}
	info, hostErr := host.Info()
	if hostErr == nil {
		e.OS = fmt.Sprintf("%s %s, kernel %s, %s", info.Platform, info.PlatformVersion, info.KernelVersion, e.OS)
	}
	power, powerErr := powerSource()
	e.Power = power
	if err := errors.Join(err, memoryErr, hostErr, powerErr); err != nil {
		log.Debug().Err(err).Msg("figures of the machine")
	}
	return e
}

// loadAverage returns the system's load average of one minute, nil if the
// system has none.
func loadAverage(log zerolog.Logger) *float64 {
	average, err := hostload.Avg()
	if err != nil {
		log.Debug().Err(err).Msg("load average")
		return nil
	}
	return &average.Load1
}

// weightsHash hashes the names and bytes of the weights in the folders.
func weightsHash(folders ...string) (string, error) {
	h := sha256.New()
	for _, folder := range folders {
		if folder == "" {
			continue
		}
		files, err := filepath.Glob(filepath.Join(folder, "*.safetensors"))
		if err != nil {
			return "", err
		}
		slices.Sort(files)
		for _, path := range files {
			if err := hashFile(h, path); err != nil {
				return "", fmt.Errorf("hash the weights: %w", err)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashFile(h io.Writer, path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := fmt.Fprintf(h, "%s\n", filepath.Base(path)); err != nil {
		return err
	}
	_, err = io.Copy(h, file)
	return err
}

// cpuTime returns the CPU time of all threads of this process. getrusage suits
// short intervals; /proc counts in ticks of 10 ms.
func cpuTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0 // never: these arguments are valid
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
