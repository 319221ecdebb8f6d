package command

import (
	"bytes"
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
	ConfigEnv = "MLXRANK_CONFIG"
	// maxSettings bounds the config file; a dozen short lines are usual.
	maxSettings = 1 << 20
)

// settings reports where the value of each shared flag is from, as errors name it:
// the flag itself, an environment variable, or the config file.
type settings struct {
	file    string // the config file read, "" if there is none
	sources map[string]string
}

func (s settings) source(name string) string {
	if source, ok := s.sources[name]; ok {
		return source
	}
	return "--" + name
}

// applySettings gives each shared flag that is not on the command line the
// value of its environment variable, or else of the config file. What neither
// sets keeps its default.
func applySettings(c *cli.Context) (settings, error) {
	known := knownSettings(c.App)
	file, values, err := readSettings(c.String("config"), known)
	if err != nil {
		return settings{}, err
	}
	s := settings{file: file, sources: map[string]string{}}
	for _, name := range known {
		if c.IsSet(name) || !hasFlag(c.Command, name) {
			continue
		}
		source, value := envOf(name), os.Getenv(envOf(name))
		if value == "" {
			var ok bool
			if value, ok = values[name]; !ok {
				continue
			}
			source = file + ": " + name
		}
		s.sources[name] = source
		if err := c.Set(name, value); err != nil {
			return s, Usagef("%s cannot be %q", source, value)
		}
	}
	return s, nil
}

// knownSettings lists the flags that the environment and the config file can set:
// the flags that commands share, and all flags of serve.
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

func hasFlag(command *cli.Command, name string) bool {
	return slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

// envOf is the environment variable of a shared flag.
func envOf(name string) string {
	return "MLXRANK_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// readSettings reads the config file: the one named by flag or environment,
// which must be there, else the user's, if there is one.
func readSettings(named string, known []string) (string, map[string]string, error) {
	path := named
	if path == "" {
		path = os.Getenv(ConfigEnv)
	}
	asked := path != ""
	if !asked {
		dir, err := os.UserConfigDir()
		if err != nil {
			return "", nil, nil // no home directory, so no config file in it
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
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxSettings)
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

// parseSettings reads YAML whose keys are names of such flags.
func parseSettings(data []byte, known []string) (map[string]string, error) {
	var raw map[string]any
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&raw); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has a second YAML document, after a line \"---\"; put all keys into one")
	}
	values, spelt := make(map[string]string, len(raw)), map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		name, value := strings.ReplaceAll(key, "_", "-"), raw[key] // experiments have max_length
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("key %q is not known%s; there are %s", key, settingHint(name, known), strings.Join(known, ", "))
		}
		if other, ok := spelt[name]; ok {
			return nil, fmt.Errorf("keys %q and %q are the same; give one", other, key)
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
