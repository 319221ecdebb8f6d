package command

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mlxrank/mlxrank/engine"
)

// A Choice is a flag with a few allowed values.
type Choice struct {
	Name, Usage string
	Def         string
	Values      []string
	deprecated  map[string]string // old values, and the values that replace them
}

// A ChoiceFlag is a string flag that knows its allowed values.
type ChoiceFlag struct {
	*cli.StringFlag
	Values []string
}

func (ch Choice) Flag() cli.Flag {
	usage := ch.Usage + ": " + strings.Join(ch.Values, ", ")
	for _, old := range slices.Sorted(maps.Keys(ch.deprecated)) {
		usage += fmt.Sprintf("; %s is deprecated: use %s", old, ch.deprecated[old])
	}
	return &ChoiceFlag{&cli.StringFlag{Name: ch.Name, Value: ch.Def, DefaultText: ch.Def, Usage: usage}, ch.Values}
}

// Check returns an error unless the flag has an allowed value. The error names
// source as the origin of the value.
func (ch Choice) Check(c *cli.Context, source string) error {
	if value := ch.Value(c); !slices.Contains(ch.Values, value) {
		return Usagef("%s %q is not one of %s", source, value, strings.Join(ch.Values, ", "))
	}
	return nil
}

// Value returns the value of the flag. A deprecated value counts as the one that
// replaces it.
func (ch Choice) Value(c *cli.Context) string {
	given := c.String(ch.Name)
	return cmp.Or(ch.deprecated[given], given)
}

func JSONFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "print JSON", DisableDefaultText: true}
}

var Long = Choice{Name: "long", Usage: "what to do with documents that do not fit: `HOW`", Def: string(engine.Truncate), Values: []string{string(engine.Truncate), string(engine.Passages)}, deprecated: map[string]string{"window": string(engine.Passages)}}

const (
	KeyEnv = "MLXRANK_API_KEY"
	maxKey = 4096 // bytes of a key's file
)

// APIKey is that of the file, else of the environment, else none. A key that
// is asked for and empty is a mistake, not an open server.
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
		return "", fmt.Errorf("%s holds no key; expected one word of at most %d printable ASCII characters", source, maxKey)
	}
	return key, nil
}
