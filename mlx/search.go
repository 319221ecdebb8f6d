package mlx

import (
	"os"
	"path/filepath"
	"runtime"
)

// LibraryEnv is the name of the environment variable for libmlxrank's file.
const LibraryEnv = "MLXRANK_LIBRARY"

// candidates returns the paths to try, best first. A path that the user gives, by
// argument or environment, is the only one.
func candidates(explicit string) []string {
	if explicit != "" {
		return []string{explicit}
	}
	if named := os.Getenv(LibraryEnv); named != "" {
		return []string{named}
	}
	var paths []string
	add := func(parts ...string) { paths = append(paths, filepath.Join(append(parts, LibraryFile)...)) }
	if exe, err := os.Executable(); err == nil {
		if target, err := filepath.EvalSymlinks(exe); err == nil {
			exe = target
		}
		dir := filepath.Dir(exe)
		add(dir)
		add(dir, "..", "lib")
		add(dir, "..", "lib", "mlxrank") // an installed prefix
		if runtime.GOOS == "darwin" {    // Contents/MacOS/PROGRAM of an app bundle
			add(dir, "..", "Frameworks")
			add(dir, "..", "Resources")
		}
	}
	if tree := sourceTree(); tree != "" {
		add(tree, "build", "lib")
	}
	for _, prefix := range homebrewPrefixes() {
		add(prefix, "opt", "mlxrank", "lib", "mlxrank")
		add(prefix, "opt", "mlxrank", "lib")
		add(prefix, "lib")
	}
	return paths
}

// Folders returns the folders in which Load looks for libmlxrank, best first.
func Folders() []string {
	var folders []string
	for _, path := range candidates("") {
		folders = append(folders, filepath.Dir(path))
	}
	return folders
}

// sourceTree returns the checkout that this file was compiled from, "" in a binary
// built with -trimpath. The working directory is not searched, because anyone who
// can write to it could choose the code that Load runs.
func sourceTree() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return ""
	}
	return filepath.Dir(filepath.Dir(file))
}

func homebrewPrefixes() []string {
	if prefix := os.Getenv("HOMEBREW_PREFIX"); prefix != "" {
		return []string{prefix}
	}
	if runtime.GOOS == "darwin" {
		return []string{"/opt/homebrew"}
	}
	return nil
}
