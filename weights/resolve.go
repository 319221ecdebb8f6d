package weights

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	// Builtin is the reference of the model that needs no directory named: the
	// encoder all-MiniLM-L6-v2 with the adapter embedded here.
	Builtin = "builtin"

	// BuiltinEnv is the environment variable that names the directory of
	// Builtin's encoder.
	BuiltinEnv = "MLXRANK_BUILTIN_DIR"

	builtinEncoder = "all-MiniLM-L6-v2"
)

//go:embed builtin/adapter_config.json
var builtinAdapterConfig []byte

//go:embed builtin/adapter_model.safetensors
var builtinAdapterWeights []byte

var hubID = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?$`)

// resolve returns the directory that a model reference names.
func resolve(ref string) (string, error) {
	if ref == Builtin {
		return findBuiltin()
	}
	if err := checkDir(ref); err == nil {
		return ref, nil
	} else if !errors.Is(err, fs.ErrNotExist) || !hubID.MatchString(ref) {
		return "", err
	}
	return "", absent("no such directory, and models of the Hugging Face hub cannot be fetched yet: " +
		"use --model " + Builtin + ", or --model DIR with a directory that holds the model")
}

// checkDir returns an error unless path is a directory.
func checkDir(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return absent("no such directory")
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory: a model is a directory with %s, %s and %s", path, configFile, tokenizerFile, weightsFile)
	}
	return nil
}

// findBuiltin returns the directory of Builtin's encoder. The environment
// variable is binding; without it the first place that exists is taken.
func findBuiltin() (string, error) {
	if dir := os.Getenv(BuiltinEnv); dir != "" {
		if err := checkDir(dir); err != nil {
			return "", fmt.Errorf("%s=%s: %w", BuiltinEnv, dir, err)
		}
		return dir, nil
	}
	dirs, err := builtinPlaces()
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		if checkDir(dir) == nil {
			return dir, nil
		}
	}
	return "", absent(fmt.Sprintf("its encoder %s was not found in %s: run `make build`, or set %s to its directory",
		builtinEncoder, strings.Join(dirs, ", "), BuiltinEnv))
}

// builtinPlaces lists where Builtin's encoder may lie: beside the executable,
// one above it, and in the build tree of the module the process runs in.
func builtinPlaces() ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return nil, err
	}
	bin := filepath.Dir(exe)
	dirs := []string{
		filepath.Join(bin, "models", builtinEncoder),
		filepath.Join(filepath.Dir(bin), "models", builtinEncoder),
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for root := wd; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return append(dirs, filepath.Join(root, "build", "models", builtinEncoder)), nil
		}
		if root == filepath.Dir(root) {
			return dirs, nil
		}
	}
}

// explainWeights says what to do when the weights are absent but kept in
// another form beside the place where they were expected.
func explainWeights(path string, err error) error {
	has := func(name string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(path), name))
		return err == nil
	}
	hint := "every model directory needs one"
	switch {
	case filepath.Base(path) == adapterFile && has("adapter_model.bin"):
		hint = "only adapter_model.bin is there: save the adapter again with save_pretrained(dir, safe_serialization=True)"
	case filepath.Base(path) == adapterFile:
		hint = "every PEFT adapter needs one"
	case has("pytorch_model.bin"):
		hint = "only pytorch_model.bin is there: convert it to safetensors, with save_pretrained(dir, safe_serialization=True)"
	}
	return missingFile(path, err, hint)
}
