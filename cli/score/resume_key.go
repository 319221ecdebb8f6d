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
	"github.com/mlxrank/mlxrank/engine"
)

// settings lists what the output of a run depends on, except the processor. It leaves
// out --on-error: an output without skipped lines is the same for both values.
func (s *scoring) settings(c *cli.Context) ([]setting, error) {
	info, identity := s.engine.Info(), "a stream"
	if s.sum != nil {
		identity = fmt.Sprintf("%s with SHA-256 %x", output.Count(s.total, "record", "records"), s.sum)
	}
	list := []setting{
		{"mlxrank", command.Version},
		{"input", identity},
		{"format", string(s.reader.Format)},
		{"--output-format", c.String("output-format")},
		{"--run-tag", c.String("run-tag")},
		{"--long", string(s.long)},
		{"--header", strconv.FormatBool(c.Bool("header"))},
		{"--query-fields", c.String("query-fields")},
		{"--query-id-field", c.String("query-id-field")},
		{"--fields", c.String("fields")},
		{"--id-field", c.String("id-field")},
		{"--overwrite-score", strconv.FormatBool(c.Bool("overwrite-score"))},
		{"--queries", s.pairs.Options.Queries.Identity()},
		{"--documents", s.pairs.Options.Documents.Identity()},
		{"model", info.Model},
		{"model directory", info.Dir},
		{"adapter", info.Adapter},
		{"device", string(info.Device) + " " + info.DeviceName},
		{"dtype", string(info.DType)},
		{"kernels", info.Kernels},
		{"variant", info.Choice.Variant},
		{"maximum length", strconv.Itoa(info.MaxLength)},
		{"activation", string(info.Activation)},
		{"label", info.Label},
		{"calibration", describeCalibration(info.Calibration)},
		{"libmlxrank", fmt.Sprintf("ABI %d, MLX %s, mlx-c %s, BLAS %s", info.Library.ABI, info.Library.MLX, info.Library.MLXC, info.Library.BLAS)},
	}
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

// describeCalibration describes what of a calibration scores depend on.
func describeCalibration(c *engine.Calibration) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("temperature %v, shift %v", c.Temperature, c.Shift)
}

// batchSettings lists what batches and the order of sums depend on. In the unfused
// graph both can change the last bits of a score.
func batchSettings(c *cli.Context, info engine.Info) []setting {
	list := []setting{
		{"--max-batch", strconv.Itoa(c.Int("max-batch"))},
		{"--max-batch-tokens", strconv.Itoa(c.Int("max-batch-tokens"))},
		{"threads", strconv.Itoa(info.Threads)},
	}
	if n := c.Int("microbatch-tokens"); n > 0 {
		list = append(list, setting{"--microbatch-tokens", strconv.Itoa(n)})
	}
	environ := os.Environ()
	slices.Sort(environ)
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, "MLX_") || strings.HasPrefix(name, "OPENBLAS_") || strings.HasPrefix(name, "OMP_") {
			list = append(list, setting{name, value})
		}
	}
	return list
}

// modelFiles identifies the files of a model by path, size and time.
func modelFiles(dir string) ([]setting, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []setting
	for _, entry := range entries {
		if !slices.Contains([]string{".json", ".safetensors"}, filepath.Ext(entry.Name())) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path) // entry.Info would describe a link and not its target
		if err != nil {
			return nil, err
		}
		list = append(list, setting{path, fmt.Sprintf("%d bytes of %s", info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))})
	}
	return list, nil
}
