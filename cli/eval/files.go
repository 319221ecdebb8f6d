package eval

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/internal/atomicfile"
)

// outputFlags lists the flags that name files to write.
var outputFlags = []string{"write-calibration", "write-run", "per-query", "plot"}

// checkOutputFiles rejects names of files that cannot be written, before a model
// works for hours.
func checkOutputFiles(c *cli.Context) error {
	inputs := append(c.StringSlice("run"), c.String("qrels"), c.String("candidates"), c.String("queries"), c.String("documents"))
	for i, name := range outputFlags {
		path := c.String(name)
		if c.IsSet(name) && path == "" {
			return command.Usagef("--%s is empty; expected the name of a file", name)
		}
		if path == "" || name == "per-query" && path == "-" {
			continue
		}
		if path == "-" {
			return command.Usagef("--%s needs a file, not standard output", name)
		}
		for _, other := range outputFlags[:i] {
			if c.String(other) == path {
				return command.Usagef("--%s and --%s both name %s; give two files", other, name, path)
			}
		}
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return command.Usagef("--%s: %s is a directory; give a file", name, path)
		case err == nil && name == "write-calibration" && !info.Mode().IsRegular():
			return command.Usagef("--%s: %s is not a regular file", name, path)
		case err == nil:
			for _, in := range inputs {
				if there, err := os.Stat(in); err == nil && os.SameFile(info, there) {
					return command.Usagef("--%s: %s is an input; give another file", name, path)
				}
			}
			continue
		}
		if folder, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		} else if !folder.IsDir() {
			return fmt.Errorf("--%s: %s is not a directory", name, filepath.Dir(path))
		}
	}
	return nil
}

// writeFile writes a file in one step. Devices and pipes are written as they are.
func writeFile(path string, write func(io.Writer) error) (err error) {
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = file.Write(data.Bytes())
		return errors.Join(err, file.Close())
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return atomicfile.Write(path, data.Bytes(), 0o666)
}
