package command

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"
)

const (
	// ConfigEnv is the environment variable with the path of the config file.
	ConfigEnv = "MLXRANK_CONFIG"
	// maxSettings caps the bytes of the config file, which usually has a dozen lines.
	maxSettings = 1 << 20
)

// settings maps each flag that the command line does not set to the origin of its
// value: an environment variable or a key of the config file.
type settings map[string]string

const settingsKey = "settings"

// Source returns the origin of a flag's value for an error message.
func Source(c *cli.Context, name string) string {
	s, _ := c.App.Metadata[settingsKey].(settings)
	return cmp.Or(s[name], "--"+name)
}

// applySettings sets each shared flag that the command line lacks, from its
// environment variable or else from the config file.
func applySettings(c *cli.Context) error {
	known := knownSettings(c.App)
	file, values, err := readSettings(c.String("config"), known)
	if errors.Is(err, fs.ErrNotExist) && c.Bool("write-config") {
		err = nil // the command makes the file
	}
	if err != nil {
		return err
	}
	s := settings{}
	c.App.Metadata[settingsKey] = s
	for _, name := range known {
		flag := FindFlag(c.Command, name)
		if flag == nil || c.IsSet(name) || isHidden(flag) {
			continue
		}
		source, value := envName(name), os.Getenv(envName(name))
		if value == "" {
			var ok bool
			if value, ok = values[name]; !ok {
				continue
			}
			source = file + ": " + name
		}
		s[name] = source
		if err := c.Set(name, value); err != nil {
			return Usagef("%s cannot be %q%s", source, value, expected(flag))
		}
	}
	return nil
}

// isHidden reports whether a flag has a deprecated name, which only the command line
// sets.
func isHidden(flag cli.Flag) bool {
	f, ok := flag.(cli.VisibleFlag)
	return ok && !f.IsVisible()
}

// knownSettings lists the flags that the environment and the config file can set:
// the shared flags and most flags of serve.
func knownSettings(app *cli.App) []string {
	names := sharedFlags()
	if serve := app.Command("serve"); serve != nil {
		for _, flag := range serve.Flags {
			if name := flag.Names()[0]; !slices.Contains(commandLineOnly, name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// envName returns the environment variable of a shared flag.
func envName(name string) string {
	return "MLXRANK_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// readSettings reads the config file that the flag or the environment names, which
// must exist, or else the user's config file if there is one.
func readSettings(named string, known []string) (string, map[string]string, error) {
	path := cmp.Or(named, os.Getenv(ConfigEnv))
	asked := path != ""
	if !asked {
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", nil, nil // no home directory, so no config file
		}
		path = filepath.Join(dir, "mlxrank", "config.yaml")
	}
	values, err := parseSettingsFile(path, known)
	if errors.Is(err, fs.ErrNotExist) && !asked {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("config file: %w", err)
	}
	return path, values, nil
}

func parseSettingsFile(path string, known []string) (map[string]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSettings {
		return nil, fmt.Errorf("%s is not a file, or is larger than %d bytes", path, maxSettings)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values, err := parseSettings(data, known)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return values, nil
}

// parseSettings reads YAML whose keys are known flags.
func parseSettings(data []byte, known []string) (map[string]string, error) {
	var raw map[string]any
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("a second YAML document follows a line \"---\"; put all keys into one")
	}
	values, spelt := make(map[string]string, len(raw)), map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		name, value := strings.ReplaceAll(key, "_", "-"), raw[key] // experiments use _
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown key %q%s; known keys: %s", key, settingHint(name, known), strings.Join(known, ", "))
		}
		if other, ok := spelt[name]; ok {
			return nil, fmt.Errorf("keys %q and %q are the same setting; give one", other, key)
		}
		spelt[name] = key
		switch value.(type) {
		case string, bool, int, int64, uint64, float64:
			values[name] = fmt.Sprint(value)
		default:
			return nil, fmt.Errorf("key %q is %v, expected a single value", key, value)
		}
	}
	return values, nil
}
