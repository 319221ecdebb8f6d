package scored

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

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

// DescribeCalibration describes what of a calibration scores depend on.
func DescribeCalibration(c *engine.Calibration) string {
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("temperature %v, shift %v", c.Temperature, c.Shift)
}

// DescribeLibrary describes the libraries that scores depend on.
func DescribeLibrary(l engine.Library) string {
	return fmt.Sprintf("ABI %d, MLX %s, mlx-c %s, BLAS %s", l.ABI, l.MLX, l.MLXC, l.BLAS)
}
