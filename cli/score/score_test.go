package score

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/cli/internal/input"
	"github.com/mlxrank/mlxrank/cli/internal/scored"
	"github.com/mlxrank/mlxrank/engine"
)

// checkScored checks that scored is lines with the correct scores added.
func checkScored(t *testing.T, e *engine.Engine, lines, scored string) {
	t.Helper()
	in := strings.Split(strings.TrimSuffix(lines, "\n"), "\n")
	out := strings.Split(strings.TrimSuffix(scored, "\n"), "\n")
	if len(in) != len(out) {
		t.Fatalf("got %d lines, want %d", len(out), len(in))
	}
	pairs := make([]engine.Pair, len(in))
	for i, line := range in {
		var err error
		if err = json.Unmarshal([]byte(line), &pairs[i]); err != nil {
			t.Fatal(err)
		}
	}
	want, err := e.Score(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range out {
		var got struct{ Score *float32 }
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Score == nil {
			t.Fatalf("line %d: %v: %s", i+1, err, line)
		}
		if !clitest.Near(*got.Score, want.Scores[i]) {
			t.Fatalf("line %d: score %v, want %v", i+1, *got.Score, want.Scores[i])
		}
		if before, _, _ := strings.Cut(line, `, "score": `); before+"}" != in[i] {
			t.Fatalf("line %d: got %s, want %s with a score", i+1, line, in[i])
		}
	}
}

func TestScore(t *testing.T) {
	model := clitest.TinyModel(t)
	e := clitest.OpenEngine(t, model)
	lines := clitest.PairLines(chunkRecords + 10) // more than one chunk
	dir := t.TempDir()
	input := clitest.WriteFile(t, filepath.Join(t.TempDir(), "pairs.jsonl"), lines)
	t.Run("file to file", func(t *testing.T) {
		output := filepath.Join(dir, "scores.jsonl")
		r := mlxrank.MustRun(t, "", "score", "--model", model, "--input", input, "--output", output)
		if r.Out != "" {
			t.Errorf("standard output has %q", r.Out)
		}
		for _, want := range []string{fmt.Sprintf("%d (0 truncated)", chunkRecords+10), "pairs/s", "real", "computed", "inference", "tokenization"} {
			if !strings.Contains(r.ErrOut, want) {
				t.Errorf("summary lacks %q:\n%s", want, r.ErrOut)
			}
		}
		scored, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		checkScored(t, e, lines, string(scored))
		clitest.CheckDir(t, dir, map[string]string{"scores.jsonl": string(scored)})
	})
	t.Run("standard streams", func(t *testing.T) {
		r := mlxrank.MustRun(t, lines, "score", "--model", model, "--input", "-", "--output", "-")
		checkScored(t, e, lines, r.Out)
	})
	t.Run("long line, blank lines, no newline at the end", func(t *testing.T) {
		long := fmt.Sprintf(`{"query":"city","document":"river","padding":"%s"}`, strings.Repeat("x", 6<<20))
		short := `{"query":"city","document":""}`
		r := mlxrank.MustRun(t, "\n"+short+"\n \n\n"+long+"\n"+short, "score", "--model", model, "--input", "-", "--output", "-")
		checkScored(t, e, short+"\n"+long+"\n"+short, r.Out)
	})
	t.Run("nothing", func(t *testing.T) {
		if r := mlxrank.MustRun(t, "", "score", "--model", model, "--input", "-", "--output", "-"); r.Out != "" {
			t.Errorf("got %q", r.Out)
		}
	})
}

// TestScoreCache scores twice with one folder: the second run computes what is new.
func TestScoreCache(t *testing.T) {
	model, folder := clitest.TinyModel(t), filepath.Join(t.TempDir(), "scores")
	lines := clitest.PairLines(20)
	score := func(want string, lines string, args ...string) string {
		t.Helper()
		r := mlxrank.MustRun(t, lines, append([]string{"score", "--model", model, "--input", "-", "--output", "-"}, args...)...)
		if strings.Contains(r.ErrOut, " known, ") != (want != "") || !strings.Contains(r.ErrOut, want) {
			t.Errorf("the summary lacks %q:\n%s", want, r.ErrOut)
		}
		return r.Out
	}
	plain := score("", lines)
	first, _, _ := strings.Cut(lines, "\n")
	score("0 of 1 pair known, 1 computed", first+"\n", "--cache", folder)
	score("1 of 20 pairs known, 19 computed", lines, "--cache", folder)
	t.Setenv("MLXRANK_CACHE", folder)
	if again := score("20 of 20 pairs known, 0 computed", lines); again != plain {
		t.Errorf("with the cache:\n%swithout it:\n%s", again, plain)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, lines, "score", "--model", model, "--input", "-", "--output", "-", "--cache", ""), command.ExitUsage, "--cache is empty")
}

func TestScoreBadInput(t *testing.T) {
	model := clitest.TinyModel(t)
	good := clitest.PairLines(2)
	for _, test := range []struct {
		name, lines string
		words       []string
		chunks      int // scored before the fault of a stream shows
	}{
		{"malformed", good + "\n{\"query\": \"q\", \"document\": \"d\"\n", []string{"line 4", "malformed JSON at byte 30"}, 0},
		{"text", good + "hello\n", []string{"line 3", "not a JSON object", `'h'`, `{"query": "...", "document": "..."}`}, 0},
		{"no query", good + `{"document": "d"}`, []string{"line 3", `"query" is missing`}, 0},
		{"no document", `{"query": "q"}`, []string{"line 1", `"document" and "text" are missing`}, 0},
		{"not a string", `{"query": ["q"], "document": "d"}`, []string{"line 1", `"query" is not a string: ["q"]`}, 0},
		{"scored already", good + `{"query": "q", "score": 1, "document": "d"}`, []string{"line 3", `"score" exists already`, "rename or remove"}, 0},
		{"in the second chunk", clitest.PairLines(chunkRecords+1) + "{}", []string{fmt.Sprintf("line %d", input.ChunkRecords+2), `"query" is missing`}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			input := clitest.WriteFile(t, filepath.Join(dir, "pairs.jsonl"), test.lines)
			output := clitest.WriteFile(t, filepath.Join(dir, "scores.jsonl"), "old")
			left := map[string]string{"pairs.jsonl": test.lines, "scores.jsonl": "old"}
			r := mlxrank.Run(t, "", "score", "--model", model, "--input", input, "--output", output)
			clitest.CheckFailure(t, r, command.ExitFailure, append(test.words, input)...)
			clitest.CheckDir(t, dir, left)
			r = mlxrank.Run(t, test.lines, "score", "--model", model, "--input", "-", "--output", output)
			clitest.CheckFailure(t, r, command.ExitFailure, append(test.words, "standard input")...)
			if test.chunks > 0 {
				for _, suffix := range []string{scored.PartialSuffix, scored.StateSuffix} {
					if !strings.Contains(r.ErrOut, output+scored.PartialSuffix+"; to continue, run the same command with --resume") {
						t.Errorf("message has no way to continue: %s", r.ErrOut)
					}
					if err := os.Remove(output + suffix); err != nil {
						t.Error(err)
					}
				}
			}
			clitest.CheckDir(t, dir, left)
		})
	}
}

// TestScoreChecksFirst checks that a bad line at the end of a file ends the run before
// the model is opened.
func TestScoreChecksFirst(t *testing.T) {
	input := clitest.WriteFile(t, filepath.Join(t.TempDir(), "pairs.jsonl"), clitest.PairLines(2)+"{}")
	r := mlxrank.Run(t, "", "score", "--model", t.TempDir(), "--input", input, "--output", "-")
	clitest.CheckFailure(t, r, command.ExitFailure, "line 3")
}

func TestScoreFiles(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	input := clitest.WriteFile(t, filepath.Join(dir, "pairs.jsonl"), clitest.PairLines(1))
	none := filepath.Join(dir, "none")
	for _, test := range []struct {
		name, input, output string
		words               []string
	}{
		{"no input file", none, "-", []string{none, "no such file"}},
		{"input is a directory", dir, "-", []string{dir, "is a directory"}},
		{"no output directory", input, none + "/scores", []string{none + "/scores", "no such file or directory"}},
		{"output is a directory", input, dir, []string{dir, "is a directory"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := mlxrank.Run(t, "", "score", "--model", model, "--input", test.input, "--output", test.output)
			clitest.CheckFailure(t, r, command.ExitFailure, test.words...)
			clitest.CheckDir(t, dir, map[string]string{"pairs.jsonl": clitest.PairLines(1)})
		})
	}
}

func TestScoreReadError(t *testing.T) {
	dir := t.TempDir()
	output := clitest.WriteFile(t, filepath.Join(dir, "scores.jsonl"), "old")
	broken := io.MultiReader(strings.NewReader(clitest.PairLines(2)), iotest.ErrReader(errors.New("disk on fire")))
	r := mlxrank.RunContext(t.Context(), t, broken, "score", "--model", clitest.TinyModel(t), "--input", "-", "--output", output)
	clitest.CheckFailure(t, r, command.ExitFailure, "standard input", "line 3", "disk on fire")
	clitest.CheckDir(t, dir, map[string]string{"scores.jsonl": "old"})
}

// TestScoreInterrupted cancels while the program waits for its input.
func TestScoreInterrupted(t *testing.T) {
	dir := t.TempDir()
	output := clitest.WriteFile(t, filepath.Join(dir, "scores.jsonl"), "old")
	ctx, cancel := context.WithCancel(t.Context())
	stdin := io.MultiReader(strings.NewReader(clitest.PairLines(3)), readerFunc(func([]byte) (int, error) {
		cancel()
		select {} // like a terminal without input
	}))
	r := mlxrank.RunContext(ctx, t, stdin, "score", "--model", clitest.TinyModel(t), "--input", "-", "--output", output)
	clitest.CheckFailure(t, r, command.ExitInterrupted, "interrupted")
	clitest.CheckDir(t, dir, map[string]string{"scores.jsonl": "old"})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestScoreLong checks that long documents get the score of their best passage, as in rerank.
func TestScoreLong(t *testing.T) {
	model := clitest.TinyModel(t)
	dir := t.TempDir()
	document := strings.Repeat("river water ", 200) + "the city "
	clitest.WriteFile(t, filepath.Join(dir, "in.tsv"), "city\t"+document+"\ncity\tpage\n")
	scores := map[string]string{}
	for _, long := range []string{"truncate", "passages", "window"} {
		r := mlxrank.MustRun(t, "", "score", "--model", model, "--max-length", "32", "--long", long, "--input", filepath.Join(dir, "in.tsv"), "--output", "-")
		scores[long], _, _ = strings.Cut(r.Out, "\n")
		if several := strings.Contains(r.ErrOut, "\npassages  "); several != (long != "truncate") {
			t.Errorf("--long %s: summary\n%s", long, r.ErrOut)
		}
	}
	if scores["window"] != scores["passages"] {
		t.Error("the old name of passages means something else")
	}
	if scores["truncate"] == scores["passages"] {
		t.Errorf("the passages change nothing: %.300s", scores["passages"])
	}
	clitest.WriteFile(t, filepath.Join(dir, "doc.json"), `["`+document+`"]`)
	r := mlxrank.MustRun(t, "", "rerank", "--model", model, "--max-length", "32", "--long", "passages", "--query", "city", "--documents", filepath.Join(dir, "doc.json"), "--json", "--quiet")
	score := scores["passages"][strings.LastIndex(scores["passages"], "\t")+1:]
	if !strings.Contains(r.Out, `"score": `+score) {
		t.Errorf("score has %s, rerank says\n%.800s", score, r.Out)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--model", model, "--long", "fold", "--input", "-", "--output", "-"), command.ExitUsage, `--long "fold"`, "truncate, passages")
}

// TestScoreLongResumed checks that a run does not resume with another --long.
func TestScoreLongResumed(t *testing.T) {
	model := clitest.TinyModel(t)
	_, _, args := interruptedRun(t, t.TempDir(), model)
	clitest.CheckFailure(t, mlxrank.Run(t, clitest.PairLines(2*chunkRecords+5), append(args, "--long", "window")...), command.ExitFailure, "cannot be resumed", "--long was truncate and is passages")
}
