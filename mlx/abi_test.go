package mlx

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// layouts pairs each Go struct with the C one it mirrors.
var layouts = map[string]any{
	"mlxrank_info":       cInfo{},
	"mlxrank_device":     cDevice{},
	"mlxrank_memory":     cMemory{},
	"mlxrank_config":     cConfig{},
	"mlxrank_head_step":  cHeadStep{},
	"mlxrank_tensor":     cTensor{},
	"mlxrank_options":    cOptions{},
	"mlxrank_variants":   cVariants{},
	"mlxrank_layout":     cLayout{},
	"mlxrank_batch":      cBatch{},
	"mlxrank_microbatch": cMicrobatch{},
	"mlxrank_stats":      cStats{},
	"mlxrank_profile":    cProfile{},
	"mlxrank_matmul":     cMatmul{},
	"mlxrank_matmuls":    cMatmuls{},
}

// A C program prints each struct's size and its fields' offsets, by the names of
// mlxrank.h. The Go structs must have the same.
func TestStructsMatchTheHeader(t *testing.T) {
	var program strings.Builder
	program.WriteString("#include <stddef.h>\n#include <stdio.h>\n#include \"mlxrank.h\"\nint main(void) {\n")
	var want []string
	for name, value := range layouts {
		typ := reflect.TypeOf(value)
		fmt.Fprintf(&program, "printf(\"%s %%zu\\n\", sizeof(%s));\n", name, name)
		want = append(want, fmt.Sprintf("%s %d", name, typ.Size()))
		for i := range typ.NumField() {
			field := typ.Field(i)
			if field.Name == "_" {
				continue
			}
			c := snake(field.Name)
			fmt.Fprintf(&program, "printf(\"%s.%s %%zu\\n\", offsetof(%s, %s));\n", name, c, name, c)
			want = append(want, fmt.Sprintf("%s.%s %d", name, c, field.Offset))
		}
	}
	program.WriteString("printf(\"abi %d\\n\", MLXRANK_ABI);\nreturn 0;\n}\n")
	want = append(want, fmt.Sprintf("abi %d", abi))

	got := compileAndRun(t, program.String())
	if got != strings.Join(want, "\n")+"\n" {
		t.Errorf("C has\n%s\nGo has\n%s", got, strings.Join(want, "\n"))
	}
}

// snake turns a Go field name into mlxrank.h's: typeIDs to type_ids.
func snake(name string) string {
	name = strings.ReplaceAll(name, "IDs", "Ids")
	var b strings.Builder
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte('_')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func compileAndRun(t *testing.T, source string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "layout")
	compileC(t, source, "-I", filepath.Join("..", "native"), "-o", program)
	out, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func compileC(t *testing.T, source string, args ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "source.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", append([]string{file}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
}
