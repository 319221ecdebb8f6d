package weights

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mlxrank/mlxrank/internal/spelling"
	"github.com/mlxrank/mlxrank/weights/hub"
)

const (
	// Default is the model that is used if none is named.
	Default = "cross-encoder/ms-marco-MiniLM-L6-v2"

	// Builtin is the reference of the model that needs no download: the encoder
	// all-MiniLM-L6-v2 with the adapter embedded in this package.
	Builtin = "builtin"

	// BuiltinEnv is the environment variable that names the directory of
	// Builtin's encoder.
	BuiltinEnv = "MLXRANK_BUILTIN_DIR"

	// BuiltinEncoder is the name of the directory of Builtin's encoder.
	BuiltinEncoder = "all-MiniLM-L6-v2"
)

// renamed maps models of the hub to their names before they were renamed. The hub
// answers to both names; the cache has a folder for each.
var renamed = map[string]string{
	"cross-encoder/ms-marco-MiniLM-L6-v2": "cross-encoder/ms-marco-MiniLM-L-6-v2",
}

//go:embed builtin/adapter_config.json
var builtinAdapterConfig []byte

//go:embed builtin/adapter_model.safetensors
var builtinAdapterWeights []byte

// ErrNotDownloaded reports that a model of the hub is not on this machine.
var ErrNotDownloaded = hub.ErrNotCached

// Progress reports the progress of the download of a file. Each file has a first
// report before any bytes arrive. In its last report, Done equals Total: the file
// is checked and in the cache.
type Progress = hub.Progress

// resolve returns the directory of a model reference. It downloads a model of
// the hub that is not in the cache.
func resolve(ctx context.Context, ref string, opts Options) (string, error) {
	if ref == Builtin {
		return findBuiltin(opts.BuiltinDir)
	}
	if err := checkDir(ref); err == nil {
		return ref, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id, err := hub.ParseRef(ref)
	switch {
	case err != nil && hub.IsAddress(ref):
		return "", absent(err.Error())
	case err != nil && isPath(ref):
		return "", absent("no such directory")
	case err != nil:
		return "", absent("no such directory, and " + err.Error() + SuggestModel(ref))
	}
	snapshot, err := fromHub(ctx, id, opts)
	switch {
	case errors.Is(err, hub.ErrNoModel):
		err = fmt.Errorf("no such directory, and %w%s", err, SuggestModel(ref))
	case errors.Is(err, ErrNotDownloaded):
		err = fmt.Errorf("%w%s", err, SuggestModel(ref))
	}
	return snapshot.Dir, err
}

// SuggestModel returns `; did you mean "MODEL"?` if ref resembles Builtin,
// Default or a model in the hub's cache, or is the name of one without its
// organisation. Otherwise it returns "".
func SuggestModel(ref string) string {
	model, _, _ := strings.Cut(ref, "@")
	known := []string{Builtin, Default}
	if client, err := hub.FromEnvironment(); err == nil {
		cached, err := client.Models()
		if err == nil {
			known = append(known, cached...)
		}
	}
	if slices.Contains(known, model) {
		return ""
	}
	for _, k := range append(known, sortedKeys(renamed)...) {
		_, name, _ := strings.Cut(k, "/")
		_, old, _ := strings.Cut(renamed[k], "/")
		if strings.EqualFold(name, model) || strings.EqualFold(old, model) {
			return fmt.Sprintf("; did you mean %q?", k)
		}
	}
	return spelling.Hint(model, known, `"%s"`)
}

// canonicalRef replaces the URL of a model's page by the model's id. It returns
// other references unchanged.
func canonicalRef(ref string) string {
	if !hub.IsAddress(ref) || checkDir(ref) == nil {
		return ref
	}
	id, err := hub.ParseRef(ref)
	if err != nil {
		return ref
	}
	return id.String()
}

// refuseAdapter returns an error if dir holds a PEFT adapter instead of a model.
func refuseAdapter(dir string) error {
	if exists(dir, configFile) || !exists(dir, adapterConfigFile) {
		return nil
	}
	base := "MODEL"
	if data, err := readSmall(filepath.Join(dir, adapterConfigFile), maxAdapterConfig); err == nil {
		var c struct {
			Base string `json:"base_model_name_or_path"`
		}
		if json.Unmarshal(data, &c) == nil && c.Base != "" {
			base = c.Base
		}
	}
	return fmt.Errorf("it is a PEFT adapter, not a model: give the model that it was trained on, and this directory as its adapter (--model %s --adapter %s)", base, dir)
}

// isPath reports whether ref is a path and cannot be the id of a model on the hub.
func isPath(ref string) bool {
	return ref == "" || strings.HasPrefix(ref, ".") || strings.HasPrefix(ref, "~") || filepath.IsAbs(ref) || strings.Count(ref, "/") > 1
}

// fromHub finds a model in the hub's cache, or downloads it. It does not download
// the weights of a model that is not supported.
func fromHub(ctx context.Context, id hub.Ref, opts Options) (hub.Snapshot, error) {
	client, err := hub.FromEnvironment()
	if err != nil {
		return hub.Snapshot{}, err
	}
	snapshot, err := client.Find(id)
	if errors.Is(err, ErrNotDownloaded) {
		if old, ok := findRenamed(client, id); ok {
			return old, nil
		}
	}
	if !errors.Is(err, ErrNotDownloaded) || opts.NoDownload {
		return snapshot, err
	}
	return client.Pull(ctx, id, hub.PullOptions{Progress: opts.Progress, Warn: opts.Warn, Check: CheckConfig})
}

// findRenamed finds a model in the cache under its other name.
func findRenamed(client *hub.Client, id hub.Ref) (hub.Snapshot, bool) {
	other := OtherName(id.Model)
	if other == "" {
		return hub.Snapshot{}, false
	}
	snapshot, err := client.Find(hub.Ref{Model: other, Revision: id.Revision})
	return snapshot, err == nil
}

// OtherName returns the old name of a renamed model of the hub, or the new name, ""
// for none. The cache may hold the model under either.
func OtherName(model string) string {
	for name, old := range renamed {
		switch model {
		case name:
			return old
		case old:
			return name
		}
	}
	return ""
}

// CheckConfig returns an error that names a setting of config.json that is not
// supported.
func CheckConfig(data []byte) error {
	_, err := parseConfig(data)
	return err
}

// CheckDir calls CheckConfig with config.json of a model directory. It checks
// nothing else; Open does.
func CheckDir(dir string) error {
	_, err := readConfig(dir)
	return err
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
		if dir := filepath.Dir(path); exists(dir, configFile) {
			return fmt.Errorf("%s is not a directory: give the directory of the model's files, %s", path, dir)
		}
		return fmt.Errorf("%s is not a directory: a model is a directory with %s, %s and %s", path, configFile, tokenizerFile, weightsFile)
	}
	return nil
}

// BuiltinDir returns the directory of Builtin's encoder that Open would use. It
// does not check the files.
func BuiltinDir() (string, error) { return findBuiltin("") }

// findBuiltin returns the directory of Builtin's encoder: named, or else the value
// of BuiltinEnv, or else the first of builtinPlaces that exists. It does not
// search if one of the first two is set.
func findBuiltin(named string) (string, error) {
	if named != "" {
		return named, checkDir(named)
	}
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
	return "", absent(fmt.Sprintf("found no encoder %s in %s: run `make build`, or set %s to its directory",
		BuiltinEncoder, strings.Join(dirs, ", "), BuiltinEnv))
}

// builtinPlaces lists the directories that Builtin's encoder may be in: beside
// the executable, one level up, in the prefix or app bundle that the executable
// is installed in, and in the build tree of the module that the process runs in.
func builtinPlaces() ([]string, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return nil, err
	}
	bin := filepath.Dir(exe)
	above := filepath.Dir(bin)
	dirs := []string{
		filepath.Join(bin, "models", BuiltinEncoder),
		filepath.Join(above, "models", BuiltinEncoder),
		filepath.Join(above, "share", "mlxrank", "models", BuiltinEncoder),
	}
	if runtime.GOOS == "darwin" { // Contents/MacOS/PROGRAM of an app bundle
		dirs = append(dirs, filepath.Join(above, "Resources", "mlxrank", "models", BuiltinEncoder))
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for root := wd; ; root = filepath.Dir(root) {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return append(dirs, filepath.Join(root, "build", "models", BuiltinEncoder)), nil
		}
		if root == filepath.Dir(root) {
			return dirs, nil
		}
	}
}
