package score

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/output"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/engine"
)

// settings lists what the output of a run depends on, except the processor. It leaves
// out --on-error: an output without skipped lines is the same for both values.
func (s *scoring) settings(c *cli.Context) ([]scored.Setting, error) {
	info, identity := s.engine.Info(), "a stream"
	if s.survey.Sum != nil {
		identity = fmt.Sprintf("%s with SHA-256 %x", output.Count(s.survey.Records, "record", "records"), s.survey.Sum)
	}
	list := []scored.Setting{{Name: "mlxrank", Value: command.Version}, {Name: "input", Value: identity}}
	if s.part != nil {
		list = append(list, scored.Setting{Name: "--part", Value: s.part.String()}, scored.Setting{Name: "whole input", Value: fmt.Sprintf("SHA-256 %x", s.within.Whole.Sum)})
	}
	list = append(list, scored.TextSettings(c, s.pairs, s.reader.Format, s.long)...)
	list = append(list, []scored.Setting{
		{Name: "model", Value: info.Model},
		{Name: "model directory", Value: info.Dir},
		{Name: "adapter", Value: info.Adapter},
		{Name: "device", Value: string(info.Device) + " " + info.DeviceName},
	}...)
	list = append(list, scored.ModelSettings(info)...)
	if !input.ExactAlone(info) {
		list = append(list, batchSettings(c, info)...)
	}
	for _, dir := range []string{info.Dir, c.String("adapter")} {
		if dir == "" {
			continue
		}
		files, err := modelFiles(dir)
		if err != nil {
			return nil, err
		}
		list = append(list, files...)
	}
	return list, nil
}

// batchSettings lists what batches and the order of sums depend on. In the unfused
// graph both can change the last bits of a score.
func batchSettings(c *cli.Context, info engine.Info) []scored.Setting {
	list := []scored.Setting{
		{Name: "--max-batch", Value: strconv.Itoa(c.Int("max-batch"))},
		{Name: "--max-batch-tokens", Value: strconv.Itoa(c.Int("max-batch-tokens"))},
		{Name: "threads", Value: strconv.Itoa(info.Threads)},
	}
	if n := c.Int("microbatch-tokens"); n > 0 {
		list = append(list, scored.Setting{Name: "--microbatch-tokens", Value: strconv.Itoa(n)})
	}
	environ := os.Environ()
	slices.Sort(environ)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "MLX_") || strings.HasPrefix(name, "OPENBLAS_") || strings.HasPrefix(name, "OMP_") {
			list = append(list, scored.Setting{Name: name, Value: value})
		}
	}
	return list
}

// modelFiles identifies the files of a model by path, size and time.
func modelFiles(dir string) ([]scored.Setting, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []scored.Setting
	for _, entry := range entries {
		if !slices.Contains([]string{".json", ".safetensors"}, filepath.Ext(entry.Name())) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path) // entry.Info would describe a link and not its target
		if err != nil {
			return nil, err
		}
		list = append(list, scored.Setting{Name: path, Value: fmt.Sprintf("%d bytes of %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))})
	}
	return list, nil
}
