package experiment

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/xrash/smetrics"
)

// An Experiment lists the points to measure.
type Experiment struct {
	Name        string
	Description string
	Swept       []string // the keys with several values
	Points      []Settings
	Warnings    []string // about deprecated keys
}

// maxFile bounds the size of an experiment's file.
const maxFile = 1 << 20

// Sources are the sources of an experiment's values. Flags override the file,
// and the file overrides Defaults. Commas separate the values of a flag.
type Sources struct {
	File     string // YAML, "" for none
	Flags    map[string]string
	Defaults map[string]string
}

// Open reads an experiment and makes its points.
func Open(from Sources) (*Experiment, error) {
	values := map[string][]string{}
	for key, value := range from.Defaults {
		values[key] = []string{value}
	}
	name := "bench"
	if from.File != "" {
		data, err := readFile(from.File)
		if err != nil {
			return nil, fmt.Errorf("experiment: %w", err)
		}
		if err := parse(data, values); err != nil {
			return nil, fmt.Errorf("experiment %s: %w", from.File, err)
		}
		name = strings.TrimSuffix(filepath.Base(from.File), filepath.Ext(from.File))
	}
	if err := addFlags(values, from.Flags); err != nil {
		return nil, err
	}
	e, err := build(name, values)
	if err != nil && from.File != "" {
		err = fmt.Errorf("experiment %s: %w", from.File, err)
	}
	return e, err
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

// addFlags overrides values by flags. A flag also removes the keys that
// contradict it: requests and duration, concurrency and rate, and the deprecated
// names of batch_timeout_ms.
func addFlags(values map[string][]string, flags map[string]string) error {
	for _, pair := range [][2]string{{"requests", "duration"}, {"concurrency", "rate"}} {
		_, first := flags[pair[0]]
		_, second := flags[pair[1]]
		if first {
			delete(values, pair[1])
		}
		if second {
			delete(values, pair[0])
		}
	}
	if _, ok := flags["batch_timeout_ms"]; ok {
		delete(values, "policy")
		delete(values, "timeout")
	} else if flags["policy"] != "" || flags["timeout"] != "" {
		delete(values, "batch_timeout_ms")
	}
	for name, value := range flags {
		key, err := find(name)
		if err != nil {
			return err
		}
		values[name] = []string{value}
		if key.Sweep {
			values[name] = strings.Split(value, ",")
		}
	}
	return nil
}

// parse reads YAML with Keys, name and description as keys.
func parse(data []byte, values map[string][]string) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	var body *ast.MappingNode
	if len(file.Docs) == 1 {
		body, _ = file.Docs[0].Body.(*ast.MappingNode)
	}
	if body == nil {
		return errors.New("expected lines of the form key: value")
	}
	for _, line := range body.Values {
		number := line.Key.GetToken().Position.Line
		name := line.Key.GetToken().Value
		if name == "cpu_shards" { // the name of threads before version 0.2
			name = "threads"
		}
		key, err := find(name)
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if values[name], err = parseValues(key, line.Value); err != nil {
			return fmt.Errorf("line %d: %s: %w", number, name, err)
		}
	}
	return nil
}

// parseValues returns the values of a line: one, or the items of a list.
func parseValues(key Key, node ast.Node) ([]string, error) {
	var value any
	if err := yaml.NodeToValue(node, &value); err != nil {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	list, isList := value.([]any)
	switch {
	case isList && !key.Sweep:
		return nil, errors.New("it cannot be a list")
	case isList && len(list) == 0:
		return nil, errors.New("its list is empty")
	case !isList:
		list = []any{value}
	}
	var values []string
	for _, item := range list {
		switch item.(type) {
		case string, bool, int, int64, uint64, float64:
			values = append(values, fmt.Sprint(item))
		default:
			return nil, fmt.Errorf("found %v, expected a value or a list of values", item)
		}
	}
	return values, nil
}

// find returns the key of a name, or an error that suggests a similar key.
func find(name string) (Key, error) {
	if name == "name" || name == "description" {
		return Key{Name: name}, nil
	}
	nearest, likeness := "", 0.0
	names := []string{"name", "description"}
	for _, key := range Keys {
		if key.Name == name {
			return key, nil
		}
		if !key.Deprecated() {
			names = append(names, key.Name)
		}
	}
	for _, known := range names {
		if like := smetrics.JaroWinkler(name, known, 0.7, 4); like > likeness {
			nearest, likeness = known, like
		}
	}
	if likeness < 0.75 {
		return Key{}, fmt.Errorf("key %q is not known; the keys are %s", name, strings.Join(names, ", "))
	}
	return Key{}, fmt.Errorf("key %q is not known; did you mean %q?", name, nearest)
}

// fileName matches names of experiments, which become names of files.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func build(name string, values map[string][]string) (*Experiment, error) {
	e := &Experiment{Name: name, Points: []Settings{{}}}
	if given, ok := values["name"]; ok {
		e.Name = given[0]
	}
	if !fileName.MatchString(e.Name) {
		return nil, fmt.Errorf("name %q cannot name files: use letters, digits, and . _ - within", e.Name)
	}
	if given, ok := values["description"]; ok {
		e.Description = strings.Join(strings.Fields(given[0]), " ")
	}
	warning, err := translate(values)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		e.Warnings = append(e.Warnings, warning)
	}
	if err := checkKeys(values); err != nil {
		return nil, err
	}
	for _, key := range Keys {
		list := withDefault(key, values)
		if len(list) == 0 {
			continue
		}
		if len(list) > 1 {
			e.Swept = append(e.Swept, key.Name)
		}
		if e.Points, err = multiply(e.Points, key, list); err != nil {
			return nil, err
		}
	}
	for _, point := range e.Points {
		if err := point.check(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// withDefault lists the values of a key. An open loop has no concurrency, and a
// run with a duration has no number of requests.
func withDefault(key Key, values map[string][]string) []string {
	if list, ok := values[key.Name]; ok {
		return list
	}
	_, open := values["rate"]
	_, timed := values["duration"]
	if key.Def == "" || key.Name == "concurrency" && open || key.Name == "requests" && timed {
		return nil
	}
	return []string{key.Def}
}

// multiply replaces each point by one point per value of the key.
func multiply(points []Settings, key Key, values []string) ([]Settings, error) {
	var out []Settings
	for _, point := range points {
		var seen []Settings
		for _, value := range values {
			next := point
			if err := key.set(&next, strings.TrimSpace(value)); err != nil {
				return nil, fmt.Errorf("%s: %w", key.Name, err)
			}
			if slices.Contains(seen, next) {
				return nil, fmt.Errorf("%s: %s is there twice", key.Name, value)
			}
			seen = append(seen, next)
		}
		out = append(out, seen...)
	}
	return out, nil
}
