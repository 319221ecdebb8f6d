package files

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// write writes files below a folder and returns it. Names that end in a slash are
// folders.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFind(t *testing.T) {
	dir := write(t, map[string]string{"a.md": "a", "b.txt": "b", "sub/c.md": "c", "sub/deep/d.md": "d", ".hidden/e.md": "e", "sub/.f.md": "f", "x[1].md": "x"})
	t.Chdir(dir)
	for link, target := range map[string]string{"link.md": "a.md", "sub/loop": "..", "broken.md": "none", "folder": "sub"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		patterns   string
		want       string
		unreadable int
	}{
		{"a.md", "a.md", 0},
		{".", "a.md b.txt sub/c.md sub/deep/d.md x[1].md", 1},
		{"./sub/", "sub/c.md sub/deep/d.md", 0},
		{"**/*.md", "a.md sub/c.md sub/deep/d.md x[1].md", 1},
		{"*.{md,txt}", "a.md b.txt x[1].md", 1},
		{"sub/*.md a.md sub/c.md ./a.md", "sub/c.md a.md", 0},
		{"link.md sub/*.md a.md", "link.md sub/c.md", 0},
		{"l*.md " + dir + "/a.md", "link.md", 0},
		{"**/d.md", "sub/deep/d.md", 0},
		{".hidden/*.md", ".hidden/e.md", 0},
		{"sub/.*", "sub/.f.md", 0},
		{"x[1].md", "x[1].md", 0},
		{"folder", "folder/c.md folder/deep/d.md", 0},
	} {
		skipped := &Skipped{}
		got, err := (&finder{fsys: System, skipped: skipped}).find(t.Context(), strings.Fields(test.patterns))
		if err != nil || strings.Join(got, " ") != test.want || skipped.Unreadable != test.unreadable {
			t.Errorf("%s: got %v, %+v, %v, want %s", test.patterns, got, skipped, err, test.want)
		}
	}
	for pattern, want := range map[string]string{"none": "no such file", "*.pdf": `no file matches "*.pdf"; quote`, "none/*": `no file matches "none/*"`, "[": "malformed pattern", "": "name of a file is empty", os.DevNull: "not a regular file"} {
		if _, err := (&finder{fsys: System, skipped: &Skipped{}}).find(t.Context(), []string{pattern}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", pattern, err, want)
		}
	}
}

func TestRead(t *testing.T) {
	dir := write(t, map[string]string{
		"a.md": "# T\nb", "b.html": "<p>c", "c.txt": "\ufeffd\n", "d.bin": "\x00\x01\x02\x03\x04", "e.txt": "caf\xe9", "f.txt": " \n", "g.html": "<script>x</script>",
		"h.txt": strings.Repeat("x", maxFile+1), "i.html": "<meta charset=latin1><p>caf\xe9", "j.txt": "\xff\xfea\x00", "k.gz": "\x1f\x8b broken",
	})
	calls := 0
	d, skipped, err := Read(t.Context(), System, []string{dir}, Options{Progress: func(_, total int) {
		if calls++; total != 11 {
			t.Errorf("%d files, want 11", total)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, document := range d.List {
		got = append(got, filepath.Base(document.ID)+"="+document.Text)
		if document.Place != i+1 {
			t.Errorf("place %d, want %d", document.Place, i+1)
		}
	}
	if want := []string{"a.md=T\nb", "b.html=c", "c.txt=d\n", "i.html=café"}; !slices.Equal(got, want) || calls != 11 {
		t.Errorf("got %q, want %q", got, want)
	}
	if s := skipped; s.Binary != 3 || s.Empty != 2 || s.Large != 1 || s.Unreadable != 1 || s.Total() != 7 || len(s.Reasons) != 5 {
		t.Errorf("skipped %+v", s)
	}
	if _, _, err := Read(t.Context(), System, []string{filepath.Join(dir, "d.bin")}, Options{}); err == nil || !strings.Contains(err.Error(), "none of the 1 files has text") {
		t.Errorf("got %v", err)
	}
}

func TestReadWithoutPermission(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	dir := write(t, map[string]string{"a.txt": "a", "b.txt": "b", "c/d.txt": "d"})
	for _, name := range []string{"b.txt", "c"} {
		if err := os.Chmod(filepath.Join(dir, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	d, skipped, err := Read(t.Context(), System, []string{dir}, Options{})
	if err != nil || len(d.List) != 1 || skipped.Unreadable != 2 {
		t.Errorf("got %+v, %+v, %v", d, skipped, err)
	}
	if err := os.Chmod(filepath.Join(dir, "c"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestMarkdownText(t *testing.T) {
	for source, want := range map[string]string{
		"# Title *a* `b`\n\ntext\nmore [link](http://x \"t\") ![alt](i.png)\n": "Title a b\ntext more link alt",
		"- one\n- two\n\n  three\n1. four\n":                                   "one\ntwo\nthree\nfour",
		"| a | b |\n|---|---|\n| `c` | d |\n":                                  "a b\nc d",
		"```go\nfunc f() {\n\treturn\n}\n```\nafter":                           "func f() {\n\treturn\n}\nafter",
		"a &amp; b \\* c <b>d</b> `\\*&amp;`":                                  "a & b * c d \\*&amp;",
		"<div>\n<p>html &lt;</p><script>x</script>\n</div>\n\n~~gone~~ à b":    "html <\ngone à b",
		"> quote\n\n<https://example.org>\n\n---\n":                            "quote\nhttps://example.org",
		"": "",
	} {
		if got := markdownText([]byte(source)); got != want {
			t.Errorf("%q: got %q, want %q", source, got, want)
		}
	}
}

func TestHTMLText(t *testing.T) {
	for source, want := range map[string]string{
		"<!doctype html><title>T &amp; U</title><body><h1>a</h1><p>b\n <b>c</b>d<br>e": "T & U\na\nb cd\ne",
		"<p>a&amp;lt;<script>if (a<b) '</p>'</script><style>x</style>b":                "a&lt;b",
		"<svg><title>x</title><svg></svg></svg>a<svg/>b":                               "ab",
		"<table><tr><td>a<td>b<tr><td>c</table>":                                       "a b\nc",
		"<pre>a\n  b</pre>c":                                                           "a\n  b\nc",
		"<meta charset=windows-1252><p>\x93a\x94":                                      "“a”",
		"a<": "a<",
		"<p": "",
	} {
		if got, err := htmlFile([]byte(source)); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", source, got, err, want)
		}
	}
}

// FuzzExtract checks that any bytes make valid text or an error.
func FuzzExtract(f *testing.F) {
	for _, seed := range []string{"# a\n- b\n", "|a|\n|-|\n|b|\n", "<p>a<script>b", "```\na", "<svg><pre>\x00", "\xff\xfe<\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if text, err := htmlFile(data); err == nil && !utf8.ValidString(text) {
			t.Errorf("%q becomes %q", data, text)
		}
		text, err := plainText(data)
		if err != nil {
			return
		}
		if got := markdownText([]byte(text)); !utf8.ValidString(got) {
			t.Errorf("%q becomes %q", data, got)
		}
	})
}
