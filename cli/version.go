package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func versionCommand(s command.Streams) *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print the version",
		UsageText: "mlxrank version [--json]",
		Description: command.Examples(
			[2]string{"Print the version", "mlxrank version"},
			[2]string{"Print the number only", "mlxrank version --json | jq -r .version"},
		),
		Flags: []cli.Flag{command.JSONFlag()},
		Action: func(c *cli.Context) error {
			if err := command.NoArguments(c); err != nil {
				return err
			}
			return printVersion(s.Out, c.Bool("json"))
		},
	}
}

func printVersion(w io.Writer, asJSON bool) error {
	v := struct {
		Version string `json:"version"`
		Go      string `json:"go"`
		OS      string `json:"os"`
		Arch    string `json:"arch"`
	}{command.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
	if asJSON {
		return json.NewEncoder(w).Encode(v)
	}
	_, err := fmt.Fprintln(w, command.VersionLine())
	return err
}
