package api

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mlxrank/mlxrank/"

// A row of the table in ARCHITECTURE.md: packages and what they import.
type row struct {
	packages []string
	imports  []string
	any      bool // imports all rows below
}

// TestImports compares the imports of all packages with the table in
// ARCHITECTURE.md, whose rows import only rows below them.
func TestImports(t *testing.T) {
	rows := importTable(t)
	found := make([][]string, len(rows))
	for _, dir := range packages(t) {
		from := rowOf(rows, dir)
		if from < 0 {
			t.Errorf("ARCHITECTURE.md has no row for the package %s; add one", dir)
			continue
		}
		pkg, err := build.ImportDir(filepath.Join("..", "..", dir), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range pkg.Imports {
			name, ours := strings.CutPrefix(path, module)
			if !ours {
				continue
			}
			to := rowOf(rows, name)
			if to == from {
				continue
			}
			if to < from {
				t.Errorf("%s imports %s; a row may import only rows below it", dir, name)
			}
			first := rows[to].packages[0]
			found[from] = append(found[from], first)
			shared := strings.HasPrefix(first, "internal/") && !strings.HasPrefix(dir, "internal/")
			if !shared && !rows[from].any && !slices.Contains(rows[from].imports, first) {
				t.Errorf("%s imports %s, which ARCHITECTURE.md does not list", dir, name)
			}
		}
	}
	for i, r := range rows {
		for _, name := range r.imports {
			if !slices.Contains(found[i], name) {
				t.Errorf("ARCHITECTURE.md says that %s imports %s; it does not", r.packages[0], name)
			}
		}
	}
}

// importTable reads the table.
func importTable(t *testing.T) (rows []row) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| package | imports | knows |\n|---|---|---|\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no table of packages")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	quoted := regexp.MustCompile("`([^`]+)`")
	names := func(cell string) (names []string) {
		for _, m := range quoted.FindAllStringSubmatch(cell, -1) {
			names = append(names, m[1])
		}
		return names
	}
	for _, line := range strings.Split(table, "\n") {
		cells := strings.Split(line, "|")
		rows = append(rows, row{names(cells[1]), names(cells[2]), strings.Contains(cells[2], "everything below")})
	}
	return rows
}

// rowOf returns the index of the row of a package, or of a folder above it; -1 if
// there is none.
func rowOf(rows []row, dir string) int {
	for ; dir != "."; dir = filepath.Dir(dir) {
		if i := slices.IndexFunc(rows, func(r row) bool { return slices.Contains(r.packages, dir) }); i >= 0 {
			return i
		}
	}
	return -1
}

// packages lists the folders with Go packages that are no scripts or examples.
func packages(t *testing.T) []string {
	t.Helper()
	root := os.DirFS(filepath.Join("..", ".."))
	var dirs []string
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if slices.Contains([]string{"build", "scripts", "examples"}, path) || d.Name() == "testdata" || path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if pkg, err := build.ImportDir(filepath.Join("..", "..", path), 0); err == nil && len(pkg.GoFiles)+len(pkg.CgoFiles) > 0 {
			dirs = append(dirs, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}
