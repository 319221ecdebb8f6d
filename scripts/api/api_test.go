// Package api holds the exported API of the packages that docs/user/go.md promises to
// keep, one declaration a line, in the manner of Go's own api folder.
package api

import (
	"bytes"
	"flag"
	"go/ast"
	"go/build"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the listings")

// TestAPI fails where a listing and its package differ. A line that is gone may
// break a program that uses the package.
func TestAPI(t *testing.T) {
	for _, name := range []string{"cache", "engine", "mlx", "server", "weights", "weights/hub"} {
		t.Run(name, func(t *testing.T) {
			got := listing(t, filepath.Join("..", "..", name))
			file := strings.ReplaceAll(name, "/", "-") + ".txt"
			if *update {
				if err := os.WriteFile(file, []byte(strings.Join(got, "\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
			for _, line := range without(want, got) {
				t.Errorf("gone: %s", line)
			}
			for _, line := range without(got, want) {
				t.Errorf("new:  %s", line)
			}
			if t.Failed() {
				t.Log("if the change is intended, add it to CHANGELOG.md, see docs/user/go.md for what a version may change, and run: go test ./scripts/api -update")
			}
		})
	}
}

// without returns the lines that are not in others.
func without(lines, others []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return slices.Contains(others, line) })
}

// listing is the exported API of the package in dir, sorted.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	pkg, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range append(pkg.GoFiles, pkg.CgoFiles...) {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	described, err := doc.NewFromFiles(fset, files, pkg.ImportPath)
	if err != nil {
		t.Fatal(err)
	}
	l := lister{fset: fset, dir: dir, t: t}
	l.values("const", described.Consts)
	l.values("var", described.Vars)
	l.functions(described.Funcs)
	for _, typ := range described.Types {
		l.typ(typ)
	}
	slices.Sort(l.lines)
	return l.lines
}

type lister struct {
	t     *testing.T
	dir   string
	fset  *token.FileSet
	lines []string
}

func (l *lister) add(parts ...string) { l.lines = append(l.lines, strings.Join(parts, " ")) }

// text prints a node on one line.
func (l *lister) text(node any) string {
	var b bytes.Buffer
	if err := printer.Fprint(&b, l.fset, node); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// values lists variables and constants, with their types where these are written
// down. Constants of a type have their values, as words of the API; others, such
// as the version, may change them.
func (l *lister) values(kind string, groups []*doc.Value) {
	for _, group := range groups {
		for _, spec := range group.Decl.Specs {
			value := spec.(*ast.ValueSpec)
			for i, name := range value.Names {
				line := kind + " " + name.Name
				if value.Type != nil {
					line += " " + l.text(value.Type)
				}
				if kind == "const" && i < len(value.Values) && value.Type != nil {
					line += " = " + l.text(value.Values[i])
				}
				if name.IsExported() {
					l.add(line)
				}
			}
		}
	}
}

func (l *lister) functions(functions []*doc.Func) {
	for _, f := range functions {
		receiver := ""
		if f.Recv != "" {
			receiver = "(" + f.Recv + ") "
		}
		l.add("func", receiver+f.Name+l.signature(f.Decl.Type))
	}
}

// signature is that of a function without the names of its parameters, which
// may change.
func (l *lister) signature(f *ast.FuncType) string {
	s := "(" + l.types(f.Params) + ")"
	if f.TypeParams != nil {
		s = "[" + l.types(f.TypeParams) + "]" + s
	}
	switch results := l.types(f.Results); f.Results.NumFields() {
	case 0:
		return s
	case 1:
		return s + " " + results
	default:
		return s + " (" + results + ")"
	}
}

// types lists the types of parameters, or the constraints of type parameters.
func (l *lister) types(list *ast.FieldList) string {
	if list == nil {
		return ""
	}
	var types []string
	for _, field := range list.List {
		for range max(1, len(field.Names)) {
			types = append(types, l.text(field.Type))
		}
	}
	return strings.Join(types, ", ")
}

// typ lists a type, its fields or the methods of an interface, and what belongs
// to it.
func (l *lister) typ(t *doc.Type) {
	for _, s := range t.Decl.Specs {
		spec := s.(*ast.TypeSpec)
		if !spec.Name.IsExported() {
			continue
		}
		name := "type " + spec.Name.Name
		if spec.TypeParams != nil {
			name += "[" + l.types(spec.TypeParams) + "]"
		}
		switch typ := spec.Type.(type) {
		case *ast.StructType:
			l.add(name, "struct")
			l.members(name+" struct,", typ.Fields)
		case *ast.InterfaceType:
			l.add(name, "interface")
			l.members(name+" interface,", typ.Methods)
		default:
			if spec.Assign.IsValid() {
				name += " ="
			}
			l.add(name, l.text(typ))
			if of, found := strings.CutPrefix(l.text(typ), "telemetry."); found {
				l.telemetry(of)
			}
		}
	}
	l.values("const", t.Consts)
	l.values("var", t.Vars)
	l.functions(t.Funcs)
	l.functions(t.Methods)
}

// telemetry lists the fields and methods of a type that the package has from
// internal/telemetry.
func (l *lister) telemetry(name string) {
	found := 0
	for _, line := range listing(l.t, filepath.Join(l.dir, "..", "internal", "telemetry")) {
		if strings.HasPrefix(line, "type "+name+" struct,") || strings.HasPrefix(line, "func (*"+name+") ") {
			l.add(line)
			found++
		}
	}
	if found == 0 {
		l.t.Errorf("internal/telemetry has no type %s with fields", name)
	}
}

// members lists the fields of a struct, with their names in JSON, or the methods
// of an interface.
func (l *lister) members(owner string, list *ast.FieldList) {
	for _, field := range list.List {
		text := " " + l.text(field.Type)
		if method, ok := field.Type.(*ast.FuncType); ok && strings.Contains(owner, " interface,") {
			text = l.signature(method)
		}
		if field.Tag != nil {
			if name, ok := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Lookup("json"); ok {
				text += " json:" + name
			}
		}
		if len(field.Names) == 0 {
			l.add(owner, "embedded"+text)
		}
		for _, name := range field.Names {
			if name.IsExported() {
				l.add(owner, name.Name+text)
			}
		}
	}
}
