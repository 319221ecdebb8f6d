package scored

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/records"
	"github.com/mlxrank/mlxrank/engine"
)

// TextSettings lists the settings of the formats and texts of an input and its output,
// which the flags of the command give. They are the same on every machine.
func TextSettings(c *cli.Context, p *input.Pairs, format records.Format, long engine.Long) []Setting {
	return []Setting{
		{"format", string(format)},
		{"--output-format", c.String("output-format")},
		{"--run-tag", c.String("run-tag")},
		{"--long", string(long)},
		{"--header", strconv.FormatBool(c.Bool("header"))},
		{"--query-fields", c.String("query-fields")},
		{"--query-id-field", c.String("query-id-field")},
		{"--fields", c.String("fields")},
		{"--id-field", c.String("id-field")},
		{"--overwrite-score", strconv.FormatBool(c.Bool("overwrite-score"))},
		{"--queries", p.Options.Queries.Identity()},
		{"--documents", p.Options.Documents.Identity()},
	}
}

// ModelSettings lists what scores depend on besides the model's contents and the device.
// They are the same on machines of the same kind.
func ModelSettings(info engine.Info) []Setting {
	l := info.Library
	return []Setting{
		{"dtype", string(info.DType)},
		{"kernels", info.Kernels},
		{"variant", info.Choice.Variant},
		{"maximum length", strconv.Itoa(info.MaxLength)},
		{"activation", string(info.Activation)},
		{"label", info.Label},
		{"calibration", describeCalibration(info.Calibration)},
		{"libmlxrank", fmt.Sprintf("ABI %d, MLX %s, mlx-c %s, BLAS %s", l.ABI, l.MLX, l.MLXC, l.BLAS)},
	}
}

// describeCalibration describes what of a calibration scores depend on.
func describeCalibration(c *engine.Calibration) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("temperature %v, shift %v", c.Temperature, c.Shift)
}

// deviceClass names the kind of device. CPUs of different names run the same kernels.
func deviceClass(info engine.Info) string {
	if info.Device == engine.CPU {
		return string(info.Device)
	}
	return string(info.Device) + " " + info.DeviceName
}

// PartSettings lists what the lines of a part depend on, the same on every machine of the
// same kind.
func PartSettings(text []Setting, e *engine.Engine) ([]Setting, error) {
	contents, err := e.ModelHash()
	if err != nil {
		return nil, err
	}
	info := e.Info()
	list := append([]Setting{{"mlxrank", command.Version}}, text...)
	list = append(list, Setting{"model's contents", contents}, Setting{"device", deviceClass(info)})
	return append(list, ModelSettings(info)...), nil
}
