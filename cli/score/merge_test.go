package score

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestMergeRefuses checks that parts that do not make the output of one run are refused,
// with the reason, and that an older output stays.
func TestMergeRefuses(t *testing.T) {
	model, dir := quickModel(t), t.TempDir()
	in := clitest.WriteFile(t, filepath.Join(dir, "in.jsonl"), clitest.PairLines(9))
	// On a GPU, all of these lines are one chunk, and one part.
	args := []string{"score", "--model", model, "--device", "cpu", "--input", in}
	parts := scoreParts(t, dir, 3, "", args...)
	dirOf := func(name string) string {
		t.Helper()
		return t.TempDir() + string(filepath.Separator) + name
	}
	change := func(file string, edit func([]byte) []byte) string {
		t.Helper()
		path := clitest.WriteFile(t, dirOf("changed"), readPacked(t, file))
		clitest.Edit(t, path, edit)
		return path
	}
	replace := func(old, changed string) string {
		t.Helper()
		return change(parts[1], func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(changed), 1) })
	}
	longer := scoreParts(t, t.TempDir(), 3, "", append(args, "--max-length", "16")...)
	tagged := scoreParts(t, t.TempDir(), 3, "", append(args, "--long", "passages")...)
	clitest.WriteFile(t, in, clitest.PairLines(10))
	grown := scoreParts(t, t.TempDir(), 3, "", args...)
	foreign := clitest.WriteFile(t, dirOf("foreign"), clitest.PairLines(2))
	empty := clitest.WriteFile(t, dirOf("empty"), "")
	for name, test := range map[string]struct {
		files  []string
		status int
		words  []string
	}{
		"none":             {nil, command.ExitUsage, []string{"give the outputs of score --part"}},
		"a part missing":   {[]string{parts[0], parts[2]}, command.ExitFailure, []string{"1 part is missing of 3: 2", "score them"}},
		"two missing":      {parts[1:2], command.ExitFailure, []string{"2 parts are missing of 3: 1, 3"}},
		"a part twice":     {append(parts[:3:3], parts[1]), command.ExitFailure, []string{parts[1] + " and " + parts[1] + " are both part 2 of 3"}},
		"truncated":        {[]string{parts[0], change(parts[1], func(b []byte) []byte { return b[:len(b)/3] }), parts[2]}, command.ExitFailure, []string{"changed: ", "truncated"}},
		"without its end":  {[]string{parts[0], change(parts[1], func(b []byte) []byte { return b[:len(b)-1] }), parts[2]}, command.ExitFailure, []string{"truncated"}},
		"a byte changed":   {[]string{parts[0], replace("page 4", "page 5"), parts[2]}, command.ExitFailure, []string{"changed: ", "edited or damaged", "SHA-256"}},
		"a line removed":   {[]string{parts[0], change(parts[1], func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }), parts[2]}, command.ExitFailure, []string{"edited or damaged"}},
		"two in one file":  {[]string{change(parts[1], func(b []byte) []byte { return append([]byte(readPacked(t, parts[0])), b...) }), parts[2]}, command.ExitFailure, []string{"edited or damaged"}},
		"foreign":          {[]string{parts[0], foreign, parts[2]}, command.ExitFailure, []string{"foreign: ", "mlxrank score --part did not write it"}},
		"empty":            {[]string{parts[0], empty, parts[2]}, command.ExitFailure, []string{"empty: ", "truncated"}},
		"another version":  {[]string{parts[0], replace(`{"mlxrank_part":{"version":1`, `{"mlxrank_part":{"version":2`), parts[2]}, command.ExitFailure, []string{"version 2, expected 1"}},
		"another length":   {[]string{parts[0], longer[1], parts[2]}, command.ExitFailure, []string{"maximum length", "16 in " + longer[1], " in " + parts[0]}},
		"another setting":  {[]string{parts[0], parts[1], tagged[2]}, command.ExitFailure, []string{"--long", "passages in " + tagged[2], "truncate in " + parts[0]}},
		"another input":    {[]string{parts[0], parts[1], grown[2]}, command.ExitFailure, []string{"input: ", parts[0], grown[2]}},
		"borders moved":    {[]string{parts[0], replace(`"start":{"offset":`, `"start":{"offset":1`), parts[2]}, command.ExitFailure, []string{"do not adjoin", parts[0]}},
		"standard input":   {[]string{"-"}, command.ExitUsage, []string{"cannot be standard input"}},
		"a part not there": {[]string{filepath.Join(dir, "nowhere")}, command.ExitFailure, []string{"no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := t.TempDir()
			path := clitest.WriteFile(t, filepath.Join(out, "scores"), "older")
			r := mlxrank.Run(t, "", append([]string{"score", "merge", "--output", path}, test.files...)...)
			clitest.CheckFailure(t, r, test.status, test.words...)
			clitest.CheckDir(t, out, map[string]string{"scores": "older"})
		})
	}
	for name, test := range map[string]struct {
		args  []string
		words []string
	}{
		"the output is a part": {[]string{"--output", parts[1]}, []string{"is also the input"}},
		"an input of lines":    {[]string{"--output", "-", "--input", in}, []string{"--input is for parts of Parquet"}},
		"no output":            {nil, []string{"--output is missing"}},
		"another name":         {[]string{"--output", filepath.Join(dir, "scores.csv")}, []string{"has the name of csv"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := clitest.Contents(t, dir)
			r := mlxrank.Run(t, "", append(append([]string{"score", "merge"}, test.args...), parts...)...)
			clitest.CheckFailure(t, r, command.ExitUsage, test.words...)
			clitest.CheckDir(t, dir, before)
		})
	}
}

// TestMergeParquetRefuses checks that merge wants the Parquet file that was scored.
func TestMergeParquetRefuses(t *testing.T) {
	model, dir := quickModel(t), t.TempDir()
	in := writeParquet(t, filepath.Join(dir, "pairs.parquet"), testPairs(5))
	other := writeParquet(t, filepath.Join(dir, "other.parquet"), testPairs(6))
	parts := scoreParts(t, dir, 2, "", "score", "--model", model, "--input", in, "--query-fields", "question", "--fields", "body")
	before := clitest.Contents(t, dir)
	for _, test := range []struct {
		status int
		word   string
		args   []string
	}{
		{command.ExitUsage, "give the scored file with --input", []string{"--output", "-"}},
		{command.ExitFailure, "is not the input of the parts", []string{"--output", "-", "--input", other}},
		{command.ExitUsage, "is also the input", []string{"--output", in, "--input", in}},
	} {
		r := mlxrank.Run(t, "", append(append([]string{"score", "merge"}, test.args...), parts...)...)
		clitest.CheckFailure(t, r, test.status, test.word)
		clitest.CheckDir(t, dir, before)
	}
	if r := mlxrank.MustRun(t, "", "score", "merge", "--help"); !strings.Contains(r.Out, "PART") || !strings.Contains(r.Out, "scores.part") {
		t.Errorf("the help is\n%s", r.Out)
	}
	if r := mlxrank.MustRun(t, "", "score", "--help"); !strings.Contains(r.Out, "merge") || !strings.Contains(r.Out, "--part") || !strings.Contains(r.Out, "Examples") {
		t.Errorf("the help is\n%s", r.Out)
	}
}
