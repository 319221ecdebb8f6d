package scored

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/input"
)

var testSettings = []Setting{{"model", "tiny"}, {"dtype", "float32"}}

// startPartial starts or resumes a file.
func startPartial(t *testing.T, path string, resume bool) *partial {
	t.Helper()
	o, err := Create(t.Context(), path, nil, resume)
	if err != nil {
		t.Fatal(err)
	}
	p := o.(*partial)
	if _, err := p.Begin(testSettings); err != nil {
		t.Fatal(err)
	}
	return p
}

// writeChunk writes a chunk of n records, which are n lines of 10 bytes in the input.
func writeChunk(t *testing.T, p *partial, text string, n int) {
	t.Helper()
	input := p.state.Input
	input.Bytes, input.Lines, input.Sum = input.Bytes+int64(10*n), input.Lines+n, make([]byte, sha256.Size)
	counts := Tally{Records: p.state.Records + n}
	if err := p.WriteChunk([]byte(text), input, counts); err != nil {
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
	if err := errors.Join(p.Commit(), p.Close(nil)); err != nil {
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
	if err := p.Commit(); err != nil {
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
	if err := p.Commit(); err != nil {
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
		o, err := Create(t.Context(), path, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if begin {
			if _, err := o.Begin(testSettings); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Close(fire); !errors.Is(err, fire) || strings.Contains(err.Error(), "--resume") {
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
			clitest.WriteFile(t, path+StateSuffix, `{"version": 1, "settings": [], "input": {"bytes": 0, "sha256": null, "lines": 0}, "output": {"bytes": 0, "sha256": ""}, "records": 0, "skipped": 0}`)
			clitest.WriteFile(t, path+PartialSuffix, data)
			p := startPartial(t, path, resume)
			if err := p.checkpoint(); err != nil {
				t.Fatal(err)
			}
			if data, err := p.readState(); err != nil {
				t.Error(err)
			} else if _, err = parseState(data); err != nil {
				t.Errorf("the state of a run without a chunk: %v", err)
			}
			if err := errors.Join(p.Commit(), p.Close(nil)); err != nil {
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
			err := p.Close(errors.New("fire"))
			for _, word := range []string{"fire; ", "3 lines", path + PartialSuffix, "--resume"} {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("error lacks %q: %v", word, err)
				}
			}
		}
		if _, err := Create(t.Context(), path, nil, false); err == nil || !strings.Contains(err.Error(), "continue it with --resume, or remove "+path+PartialSuffix) {
			t.Errorf("without --resume: %v", err)
		}
		p = startPartial(t, path, true)
		if p.state.Input.Bytes != 30 || p.state.Input.Lines != 3 || p.state.Records != 3 {
			t.Errorf("resumed at %+v", p.state)
		}
		writeChunk(t, p, "two", 1)
		if err := errors.Join(p.Commit(), p.Close(nil)); err != nil {
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
			want := State{}
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
				want = State{}
			}
			kill(t, p)
			p = startPartial(t, path, true)
			if p.state.Output.Bytes != want.Output.Bytes || p.state.Records != want.Records {
				t.Errorf("resumed at %+v, want %+v", p.state, want)
			}
			if want.Records == 0 {
				writeChunk(t, p, "one", 1)
			}
			if err := p.Commit(); err != nil {
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
		}, []string{PartialSuffix, "is not what the earlier run wrote", "remove"}},
		{"output changed", func(t *testing.T, p *partial) { clitest.WriteFile(t, p.dataPath(), "0ne more") }, []string{PartialSuffix, "is not what the earlier run wrote"}},
		{"state cut", func(t *testing.T, p *partial) {
			clitest.Edit(t, p.statePath(), func(b []byte) []byte { return b[:len(b)/2] })
		}, []string{StateSuffix, "cannot be read", "remove"}},
		{"state empty", func(t *testing.T, p *partial) { clitest.WriteFile(t, p.statePath(), "") }, []string{StateSuffix, "cannot be read"}},
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
			before := clitest.Contents(t, dir)
			settings := testSettings
			if test.name == "another setting" {
				settings = []Setting{{"model", "tiny"}, {"dtype", "float16"}, {"threads", "2"}}
			}
			o, err := Create(t.Context(), p.path, nil, true)
			if err == nil {
				_, err = o.Begin(settings)
				err = o.Close(err)
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

// TestPartialTwice checks that a second run cannot write the same file.
func TestPartialTwice(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	p := startPartial(t, path, false)
	writeChunk(t, p, "one", 1)
	for _, resume := range []bool{false, true} {
		if _, err := Create(t.Context(), path, nil, resume); err == nil || !strings.Contains(err.Error(), "another mlxrank is writing it") {
			t.Errorf("resume %v: %v", resume, err)
		}
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := startPartial(t, path, false).Close(errors.New("fire")); err == nil {
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
	if err := p.Close(input.ErrChanged); !errors.Is(err, input.ErrChanged) || strings.Contains(err.Error(), "--resume") {
		t.Errorf("got error %v", err)
	}
	clitest.CheckDir(t, dir, nil)
}
