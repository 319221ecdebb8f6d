package rerank

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestRerankFiles ranks the files below a folder by their passages.
func TestRerankFiles(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll("docs/deep", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"docs/a.md": "# City\n\n" + strings.Repeat("water and more. ", 100), "docs/deep/b.html": "<title>T</title><p>page <b>one</b>", "docs/c.txt": "plain\n", "docs/d.bin": "\x00\x01\x02\x03", "notes.md": "*note*",
	} {
		clitest.WriteFile(t, filepath.FromSlash(name), text)
	}
	flags := []string{"--model", model, "--query", "city", "--files", "docs"}
	r := mlxrank.MustRun(t, "", append([]string{"rerank", "--json", "--log-level", "warn"}, flags...)...)
	if !strings.Contains(r.ErrOut, "some files are left out") || !strings.Contains(r.ErrOut, "not_text=1") || !strings.Contains(r.ErrOut, "docs/d.bin: not UTF-8 text") {
		t.Errorf("no warning of the binary file:\n%s", r.ErrOut)
	}
	if err := os.Remove("docs/d.bin"); err != nil {
		t.Fatal(err)
	}
	got := rerankJSON(t, "", append(flags, "notes.md")...)
	texts := map[string]string{}
	for _, r := range got.Results {
		texts[r.Path] = r.Document
		if r.ID != "" || r.Line != 0 || (r.Passage != nil) != (r.Path == "docs/a.md") {
			t.Errorf("got %+v", r)
		}
		if p := r.Passage; p != nil && (p.Count < 2 || p.Text != r.Document[p.Start:p.End]) {
			t.Errorf("got passage %+v", p)
		}
	}
	if len(texts) != 4 || texts["docs/deep/b.html"] != "T\npage one" || texts["notes.md"] != "note" || !strings.HasPrefix(texts["docs/a.md"], "City\nwater") {
		t.Errorf("got %q", texts)
	}
	table := mlxrank.MustRun(t, "", append([]string{"rerank", "--top-n", "4"}, append(flags, "docs/**/*.html")...)...)
	if !strings.Contains(table.Out, "rank   score              file") || !strings.Contains(table.Out, "docs/a.md  [") {
		t.Errorf("got\n%s", table.Out)
	}
	cut := rerankJSON(t, "", append(flags, "--long", "truncate")...)
	for _, r := range cut.Results {
		if r.Passage != nil {
			t.Errorf("--long truncate has passage %+v", r.Passage)
		}
	}
	for words, args := range map[string][]string{
		"--documents and --files both give documents": {"--files", "docs", "--documents", "-"},
		"need --documents FILE":                       {"--files", "docs", "--format", "lines"},
		`no file matches "*.pdf"`:                     {"--files", "*.pdf"},
		"no such file":                                {"--files", "docs", "none.md"},
	} {
		status := command.ExitFailure
		if strings.Contains(words, "--documents") {
			status = command.ExitUsage
		}
		clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"rerank", "--model", model, "--query", "q"}, args...)...), status, words)
	}
}
