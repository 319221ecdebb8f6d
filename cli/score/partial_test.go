package score

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestPartialPlanted puts links and pipes where a run writes next to its output, and
// checks that the run does not follow, change or remove them.
func TestPartialPlanted(t *testing.T) {
	model := quickModel(t)
	for _, suffix := range suffixes {
		for name, plant := range map[string]func(victim, path string) error{
			"symbolic link": os.Symlink,
			"hard link":     os.Link,
			"named pipe":    func(_, path string) error { return unix.Mkfifo(path, 0o666) },
		} {
			t.Run(name+suffix, func(t *testing.T) {
				dir := t.TempDir()
				victim := clitest.WriteFile(t, filepath.Join(dir, "victim"), "precious")
				output := filepath.Join(dir, "out")
				if err := plant(victim, output+suffix); err != nil {
					t.Fatal(err)
				}
				r := mlxrank.Run(t, msmarcoLines(5), "score", "--model", model, "--input", "-", "--format", "msmarco", "--output-format", "trec", "--output", output)
				if temporary := suffix == newSuffix || suffix == runSuffix; temporary == (r.Status != command.ExitOK) {
					t.Errorf("status %d: %s", r.Status, r.ErrOut)
				}
				if r.Status != command.ExitOK {
					clitest.CheckFailure(t, r, command.ExitFailure, output+suffix, "remove it")
				}
				if got, err := os.ReadFile(victim); err != nil || string(got) != "precious" {
					t.Errorf("the file that was linked to: %q, %v", got, err)
				}
			})
		}
	}
}

var testSettings = []setting{{"model", "tiny"}, {"dtype", "float32"}}

// startPartial starts or resumes a file.
func startPartial(t *testing.T, path string, resume bool) *partial {
	t.Helper()
	o, err := createOutput(t.Context(), path, nil, resume)
	if err != nil {
		t.Fatal(err)
	}
	p := o.(*partial)
	if _, err := p.begin(testSettings); err != nil {
		t.Fatal(err)
	}
	return p
}

// writeChunk writes a chunk of n records, which are n lines of 10 bytes in the input.
func writeChunk(t *testing.T, p *partial, text string, n int) {
	t.Helper()
	input := p.state.Input
	input.Bytes, input.Lines, input.Sum = input.Bytes+int64(10*n), input.Lines+n, make([]byte, sha256.Size)
	counts := tally{Records: p.state.Records + n}
	if err := p.write([]byte(text), input, counts); err != nil {
		t.Fatal(err)
	}
}

// kill ends a run as kill -9 does.
func kill(t *testing.T, p *partial) {
	t.Helper()
	if err := p.release(); err != nil {
		t.Fatal(err)
	}
}

func TestPartialCommit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	p := startPartial(t, path, false)
	writeChunk(t, p, "new", 1)
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is there before commit")
	}
	if err := errors.Join(p.commit(), p.close(nil)); err != nil {
		t.Fatal(err)
	}
	clitest.CheckDir(t, dir, map[string]string{"out": "new"})
}

func TestPartialReplacesFile(t *testing.T) {
	dir := t.TempDir()
	path := clitest.WriteFile(t, filepath.Join(dir, "out"), "old")
	if err := os.Chmod(path, 0o646); err != nil { // a mode that no umask produces
		t.Fatal(err)
	}
	p := startPartial(t, path, false)
	writeChunk(t, p, "new", 1)
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("before commit: got %q, %v, want %q", got, err, "old")
	}
	if err := p.commit(); err != nil {
		t.Fatal(err)
	}
	clitest.CheckDir(t, dir, map[string]string{"out": "new"})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o646 {
		t.Errorf("mode %v, %v, want 0646", info.Mode(), err)
	}
}

func TestPartialThroughLink(t *testing.T) {
	dir := t.TempDir()
	target := clitest.WriteFile(t, filepath.Join(dir, "target"), "old")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	p := startPartial(t, link, false)
	writeChunk(t, p, "new", 1)
	if err := p.commit(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
	clitest.CheckDir(t, dir, map[string]string{"target": "new", "link": "new"})
}

// TestPartialNothingDone checks that a run that failed before its first chunk leaves
// nothing.
func TestPartialNothingDone(t *testing.T) {
	dir := t.TempDir()
	path := clitest.WriteFile(t, filepath.Join(dir, "out"), "old")
	fire := errors.New("fire")
	for _, begin := range []bool{false, true} {
		o, err := createOutput(t.Context(), path, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if begin {
			if _, err := o.begin(testSettings); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.close(fire); !errors.Is(err, fire) || strings.Contains(err.Error(), "--resume") {
			t.Errorf("got error %v", err)
		}
		clitest.CheckDir(t, dir, map[string]string{"out": "old"})
	}
}

// TestPartialStateWithoutSum starts again after a state that nothing can be compared
// with, and never writes one.
func TestPartialStateWithoutSum(t *testing.T) {
	for _, resume := range []bool{false, true} {
		for _, data := range []string{"", "half a line"} {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			clitest.WriteFile(t, path+stateSuffix, `{"version": 1, "settings": [], "input": {"bytes": 0, "sha256": null, "lines": 0}, "output": {"bytes": 0, "sha256": ""}, "records": 0, "skipped": 0}`)
			clitest.WriteFile(t, path+partialSuffix, data)
			p := startPartial(t, path, resume)
			if err := p.checkpoint(); err != nil {
				t.Fatal(err)
			}
			if data, err := p.readState(); err != nil {
				t.Error(err)
			} else if _, err = parseState(data); err != nil {
				t.Errorf("the state of a run without a chunk: %v", err)
			}
			if err := errors.Join(p.commit(), p.close(nil)); err != nil {
				t.Fatal(err)
			}
			clitest.CheckDir(t, dir, map[string]string{"out": ""})
		}
	}
}

// TestPartialKept resumes a run that failed, and one that was killed.
func TestPartialKept(t *testing.T) {
	for _, killed := range []bool{false, true} {
		dir := t.TempDir()
		path := clitest.WriteFile(t, filepath.Join(dir, "out"), "old")
		p := startPartial(t, path, false)
		writeChunk(t, p, "one ", 3)
		if killed {
			if err := p.checkpoint(); err != nil {
				t.Fatal(err)
			}
			writeChunk(t, p, "torn", 3)
			kill(t, p)
		} else {
			err := p.close(errors.New("fire"))
			for _, word := range []string{"fire; ", "3 lines", path + partialSuffix, "--resume"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error lacks %q: %v", word, err)
				}
			}
		}
		if _, err := createOutput(t.Context(), path, nil, false); err == nil || !strings.Contains(err.Error(), "continue it with --resume, or remove "+path+partialSuffix) {
			t.Errorf("without --resume: %v", err)
		}
		p = startPartial(t, path, true)
		if p.state.Input.Bytes != 30 || p.state.Input.Lines != 3 || p.state.Records != 3 {
			t.Errorf("resumed at %+v", p.state)
		}
		writeChunk(t, p, "two", 1)
		if err := errors.Join(p.commit(), p.close(nil)); err != nil {
			t.Fatal(err)
		}
		clitest.CheckDir(t, dir, map[string]string{"out": "one two"})
	}
}

// TestPartialStopsBetween ends runs at every step of a commit, and checks that each
// leaves a complete file or one that can be resumed.
func TestPartialStopsBetween(t *testing.T) {
	for _, step := range []string{"before the first checkpoint", "after the last checkpoint", "after the rename"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			p := startPartial(t, path, false)
			writeChunk(t, p, "one", 1)
			want := state{}
			if step != "before the first checkpoint" {
				if err := p.checkpoint(); err != nil {
					t.Fatal(err)
				}
				want = p.state
			}
			if step == "after the rename" {
				if err := os.Rename(p.dataPath(), path); err != nil {
					t.Fatal(err)
				}
				want = state{}
			}
			kill(t, p)
			p = startPartial(t, path, true)
			if p.state.Output.Bytes != want.Output.Bytes || p.state.Records != want.Records {
				t.Errorf("resumed at %+v, want %+v", p.state, want)
			}
			if want.Records == 0 {
				writeChunk(t, p, "one", 1)
			}
			if err := p.commit(); err != nil {
				t.Fatal(err)
			}
			clitest.CheckDir(t, dir, map[string]string{"out": "one"})
		})
	}
}

func TestPartialRefused(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, p *partial)
		words []string
	}{
		{"another setting", func(*testing.T, *partial) {}, []string{"dtype was float32 and is float16", "threads was not there and is 2", "remove"}},
		{"output cut", func(t *testing.T, p *partial) {
			if err := os.Truncate(p.dataPath(), 2); err != nil {
				t.Fatal(err)
			}
		}, []string{partialSuffix, "is not what the earlier run wrote", "remove"}},
		{"output changed", func(t *testing.T, p *partial) { clitest.WriteFile(t, p.dataPath(), "0ne more") }, []string{partialSuffix, "is not what the earlier run wrote"}},
		{"state cut", func(t *testing.T, p *partial) {
			clitest.Edit(t, p.statePath(), func(b []byte) []byte { return b[:len(b)/2] })
		}, []string{stateSuffix, "cannot be read", "remove"}},
		{"state empty", func(t *testing.T, p *partial) { clitest.WriteFile(t, p.statePath(), "") }, []string{stateSuffix, "cannot be read"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			p := startPartial(t, filepath.Join(dir, "out"), false)
			writeChunk(t, p, "one", 1)
			if err := p.checkpoint(); err != nil {
				t.Fatal(err)
			}
			kill(t, p)
			test.spoil(t, p)
			before := contents(t, dir)
			settings := testSettings
			if test.name == "another setting" {
				settings = []setting{{"model", "tiny"}, {"dtype", "float16"}, {"threads", "2"}}
			}
			o, err := createOutput(t.Context(), p.path, nil, true)
			if err == nil {
				_, err = o.begin(settings)
				err = o.close(err)
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error lacks %q: %v", word, err)
				}
			}
			clitest.CheckDir(t, dir, before)
		})
	}
}

// contents returns the files of a directory by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[entry.Name()] = string(data)
	}
	return files
}

// TestPartialTwice checks that a second run cannot write the same file.
func TestPartialTwice(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	p := startPartial(t, path, false)
	writeChunk(t, p, "one", 1)
	for _, resume := range []bool{false, true} {
		if _, err := createOutput(t.Context(), path, nil, resume); err == nil || !strings.Contains(err.Error(), "another mlxrank is writing it") {
			t.Errorf("resume %v: %v", resume, err)
		}
	}
	if err := p.commit(); err != nil {
		t.Fatal(err)
	}
	if err := startPartial(t, path, false).close(errors.New("fire")); err == nil {
		t.Error("no error")
	}
	clitest.CheckDir(t, dir, map[string]string{"out": "one"})
}

// TestPartialChanged checks that nothing is kept if the input changed during the run.
func TestPartialChanged(t *testing.T) {
	dir := t.TempDir()
	p := startPartial(t, filepath.Join(dir, "out"), false)
	writeChunk(t, p, "one", 1)
	if err := p.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if err := p.close(errChanged); !errors.Is(err, errChanged) || strings.Contains(err.Error(), "--resume") {
		t.Errorf("got error %v", err)
	}
	clitest.CheckDir(t, dir, nil)
}
