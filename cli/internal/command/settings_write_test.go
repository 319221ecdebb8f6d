package command

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestEditSettings(t *testing.T) {
	known := []string{"model", "dtype", "threads", "microbatch-tokens", "listen"}
	choice := []Setting{{Name: "dtype", Value: "int8"}, {Name: "threads", Value: "2", Optional: true}, {Name: "microbatch-tokens", Value: "512", Optional: true}}
	for _, test := range []struct{ name, before, after string }{
		{"nothing", "", "dtype: int8\n"},
		{"comments and order stay", "# mine\nmodel: builtin  # a model\n\nlisten: 127.0.0.1:1\n", "# mine\nmodel: builtin  # a model\n\nlisten: 127.0.0.1:1\ndtype: int8\n"},
		{"a value is replaced, its comment stays", "dtype:  float32   # exact\nmodel: x\n", "dtype:  int8   # exact\nmodel: x\n"},
		{"optional values that are there", "microbatch_tokens: 64\nthreads: 1\n", "microbatch_tokens: 512\nthreads: 2\ndtype: int8\n"},
		{"no line end", "model: builtin", "model: builtin\ndtype: int8\n"},
		{"CRLF", "dtype: auto\r\nmodel: builtin\r\n", "dtype: int8\r\nmodel: builtin\r\n"},
		{"quotes", "\"dtype\": \"auto\"\n", "\"dtype\": int8\n"},
		{"an empty value", "dtype:\nmodel: a\n", ""},
		{"a commented key", "# dtype: float16\n", "# dtype: float16\ndtype: int8\n"},
		{"only a comment", "# nothing\n", "# nothing\ndtype: int8\n"},
		{"flow style", "{dtype: auto, model: builtin}\n", ""},
		{"a key in another's text", "model: |\n  dtype: float32\n", "model: |\n  dtype: float32\ndtype: int8\n"},
		{"a value on the next line", "dtype:\n  float32\n", ""},
		{"an end marker", "model: a\n...\n", ""},
		{"unknown key", "modell: a\n", ""},
	} {
		got, err := editSettings([]byte(test.before), choice, known)
		if test.after == "" {
			if err == nil {
				t.Errorf("%s: accepted as %q", test.name, got)
			}
			continue
		}
		if err != nil || string(got) != test.after {
			t.Errorf("%s: %q, error %v, want %q", test.name, got, err, test.after)
		}
		again, err := editSettings(got, choice, known)
		if err != nil || string(again) != string(got) {
			t.Errorf("%s, again: %q, error %v", test.name, again, err)
		}
	}
	_, err := editSettings([]byte("{dtype: auto}\n"), choice, known)
	if err == nil || !strings.Contains(err.Error(), "by hand:\n  dtype: int8\n  threads: 2") {
		t.Errorf("error %v lacks what to write", err)
	}
}

func TestWriteSettingsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte("model: builtin # kept\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	f := &SettingsFile{Path: path, known: []string{"model", "dtype"}}
	if err := f.Write([]Setting{{Name: "dtype", Value: "int8"}}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	data := read(t, path)
	if err != nil || info.Mode().Perm() != 0o640 || data != "model: builtin # kept\ndtype: int8\n" {
		t.Errorf("mode %v, %q, error %v", info.Mode(), data, err)
	}
	// Another program writes meanwhile, and its text stays.
	if err := os.WriteFile(path, []byte("model: other\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]Setting{{Name: "dtype", Value: "int8"}}); err != nil {
		t.Fatal(err)
	}
	if data := read(t, path); data != "model: other\ndtype: int8\n" {
		t.Errorf("%q", data)
	}
	// A damaged or read-only file is not touched.
	for _, test := range []struct {
		text string
		mode os.FileMode
	}{{"model: [a\n", 0o640}, {"model: a\n", 0o440}} {
		if err := os.WriteFile(path, []byte(test.text), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, test.mode); err != nil {
			t.Fatal(err)
		}
		if err := f.Write([]Setting{{Name: "dtype", Value: "int8"}}); err == nil {
			t.Errorf("%q with mode %v is written", test.text, test.mode)
		}
		if data := read(t, path); data != test.text {
			t.Errorf("%q became %q", test.text, data)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files %v, error %v", entries, err)
	}
}

// A file is refused before the values are known if they could not be written.
func TestCheckSettingsFile(t *testing.T) {
	for _, test := range []struct {
		name, text, word string // word is "" if the file is fine
		locked           bool
	}{
		{"fine", "model: builtin\nthreads: 2\n", "", false},
		{"flow style", "{model: builtin, dtype: int8}\n", "one line for each key; write it", false},
		{"a value on the next line", "model: builtin\nthreads:\n  2\n", "one line for each key; write it", false},
		{"locked", "model: builtin\n", "cannot be written", true},
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(path, []byte(test.text), 0o640); err != nil {
			t.Fatal(err)
		}
		if test.locked && !lock(t, path) {
			continue
		}
		f := &SettingsFile{Path: path, known: []string{"model", "dtype", "threads"}}
		err := f.check([]string{"dtype", "threads"})
		if (err == nil) != (test.word == "") || err != nil && !strings.Contains(err.Error(), test.word) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.word)
		}
		if data := read(t, path); data != test.text {
			t.Errorf("%s: %q became %q", test.name, test.text, data)
		}
	}
}

// lock makes a file unwritable whose mode has a bit for writing. It returns false for a
// superuser on a file system without immutable files: no other file resists one.
func lock(t *testing.T, path string) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		if err := os.Chmod(path, 0o460); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if out, err := exec.Command("chattr", "+i", path).CombinedOutput(); err != nil {
		t.Logf("no immutable files here: %v %s", err, out)
		return false
	}
	t.Cleanup(func() {
		if out, err := exec.Command("chattr", "-i", path).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return true
}

// read returns the text of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
