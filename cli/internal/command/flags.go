package command

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime/pprof"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// A Choice defines a flag with a few allowed values.
type Choice struct {
	Name, Usage string
	Def         string
	Values      []string
	deprecated  map[string]string // replacements by old value
}

// A ChoiceFlag is a string flag that knows its allowed values.
type ChoiceFlag struct {
	*cli.StringFlag
	Values []string
}

// Flag returns a flag for the choice.
func (ch Choice) Flag() cli.Flag {
	usage := ch.Usage + ": " + strings.Join(ch.Values, ", ")
	for _, old := range slices.Sorted(maps.Keys(ch.deprecated)) {
		usage += fmt.Sprintf("; %s is deprecated: use %s", old, ch.deprecated[old])
	}
	return &ChoiceFlag{&cli.StringFlag{Name: ch.Name, Value: ch.Def, DefaultText: ch.Def, Usage: usage}, ch.Values}
}

// Check returns an error unless the flag has an allowed value, or several with commas
// in a command of EngineListFlags. The error reports source as the origin of the value.
func (ch Choice) Check(c *cli.Context, source string) error {
	values := []string{ch.Value(c)}
	if _, lists := FindFlag(c.Command, "max-length").(*cli.StringFlag); lists && ch.Name == "dtype" {
		values = strings.Split(values[0], ",")
	}
	for i, value := range values {
		if !slices.Contains(ch.Values, value) {
			return Usagef("%s %q is not one of %s", source, value, strings.Join(ch.Values, ", "))
		}
		if slices.Contains(values[:i], value) {
			return Usagef("%s has %s twice; give it once", source, value)
		}
	}
	return nil
}

// Value returns the value of the flag, or the replacement of a deprecated value.
func (ch Choice) Value(c *cli.Context) string {
	given := c.String(ch.Name)
	return cmp.Or(ch.deprecated[given], given)
}

// JSONFlag returns the flag --json.
func JSONFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", DisableDefaultText: true}
}

// longFlag is --long. window is the old name of passages.
var longFlag = Choice{Name: "long", Usage: "`MODE` for documents longer than the model takes", Def: string(engine.Truncate),
	Values: []string{string(engine.Truncate), string(engine.Passages)}, deprecated: map[string]string{"window": string(engine.Passages)}}

// LongFlag returns the flag --long.
func LongFlag() cli.Flag { return longFlag.Flag() }

// LongMode returns the mode that --long asks for.
func LongMode(c *cli.Context) (engine.Long, error) {
	return engine.Long(longFlag.Value(c)), longFlag.Check(c, "--long")
}

const (
	// KeyEnv is the environment variable with the API key.
	KeyEnv = "MLXRANK_API_KEY"
	// JoinEnv is the environment variable with the address of a fleet's server.
	JoinEnv = "MLXRANK_JOIN"
	maxKey  = 4096 // bytes
)

// APIKey returns the key from file, or else from the environment, or "" if neither
// is given. An empty key is an error: it must not open the server to everyone.
func APIKey(file string) (string, error) {
	key, source := os.Getenv(KeyEnv), KeyEnv
	if _, set := os.LookupEnv(KeyEnv); file == "" && !set {
		return "", nil
	}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("key file: %w", err)
		}
		key, source = string(data), file
	}
	key = strings.TrimSpace(key)
	if key == "" || len(key) > maxKey || slices.ContainsFunc([]rune(key), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s has no valid key; expected one word of at most %d printable ASCII characters", source, maxKey)
	}
	return key, nil
}

// CalibrationFlag returns the flag --calibration.
func CalibrationFlag() cli.Flag {
	return &cli.StringFlag{Name: "calibration", DefaultText: "none", Usage: "`FILE` of mlxrank eval with the temperature and shift that make scores probabilities"}
}

// SetCalibration reads the file of --calibration, if it is given, for the engine.
func SetCalibration(c *cli.Context, config *engine.Config) error {
	if !c.IsSet("calibration") {
		return nil
	}
	if c.String("calibration") == "" {
		return Usagef("%s is empty", Source(c, "calibration"))
	}
	calibration, err := engine.ReadCalibration(c.String("calibration"))
	if err != nil {
		return err // which names the file
	}
	config.Calibration = &calibration
	return nil
}

// ProfileFlag returns the flag --cpuprofile.
func ProfileFlag() cli.Flag {
	return &cli.StringFlag{Name: "cpuprofile", DefaultText: "none", Usage: "`FILE` for a CPU profile of the Go code, for developers of mlxrank"}
}

// Profiled wraps an action so that it writes the CPU profile of --cpuprofile.
func Profiled(action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		path := c.String("cpuprofile")
		if path == "" {
			return action(c)
		}
		file, err := os.Create(path)
		if err != nil {
			return fmt.Errorf("--cpuprofile: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("--cpuprofile: %w", err)
		}
		defer pprof.StopCPUProfile()
		return action(c)
	}
}
