package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/engine"
)

func TestTokenize(t *testing.T) {
	model := clitest.TinyModel(t)
	e := clitest.OpenEngine(t, model)
	lines := clitest.PairLines(3) + `{"query": "", "document": "", "score": 1}` + "\n" +
		`{"query": "the city", "document": "` + strings.Repeat("river ", 300) + `"}` + "\n"
	r := mlxrank.MustRun(t, lines, "tokenize", "--model", model, "--input", "-")
	if r.ErrOut != "" {
		t.Errorf("standard error has %q", r.ErrOut)
	}
	in, out := strings.Split(strings.TrimSpace(lines), "\n"), strings.Split(strings.TrimSpace(r.Out), "\n")
	if len(in) != len(out) {
		t.Fatalf("got %d lines, want %d", len(out), len(in))
	}
	for i, line := range in {
		var pair engine.Pair
		if err := json.Unmarshal([]byte(line), &pair); err != nil {
			t.Fatal(err)
		}
		var got tokensJSON
		if err := json.Unmarshal([]byte(out[i]), &got); err != nil {
			t.Fatal(err)
		}
		want, err := e.Tokenize(t.Context(), []engine.Pair{pair})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.InputIDs, want[0].IDs) || !slices.Equal(got.TokenTypeIDs, want[0].TypeIDs) || got.Truncated != want[0].Truncated {
			t.Errorf("line %d: got %+v, want %+v", i+1, got, want[0])
		}
		if long := i == len(in)-1; got.Truncated != long || (long && len(got.InputIDs) != 128) {
			t.Errorf("line %d: %d tokens, truncated %v", i+1, len(got.InputIDs), got.Truncated)
		}
	}
	// An empty pair is [CLS] [SEP] [SEP], by BERT's ids of the test tokenizer.
	if want := `{"input_ids":[101,102,102],"token_type_ids":[0,0,1],"truncated":false}`; out[3] != want {
		t.Errorf("got %s, want %s", out[3], want)
	}
}

func TestTokenizeBadInput(t *testing.T) {
	model := clitest.TinyModel(t)
	file := filepath.Join(t.TempDir(), "pairs.jsonl")
	if err := os.WriteFile(file, []byte(clitest.PairLines(1)+"{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := mlxrank.Run(t, "", "tokenize", "--model", model, "--input", file)
	clitest.CheckFailure(t, r, command.ExitFailure, file, "line 2", `"query" is missing`)
	// What comes through a pipe is answered as it comes: the line before the bad
	// one perhaps, as they may have come together.
	r = mlxrank.Run(t, clitest.PairLines(1)+"{}", "tokenize", "--model", model, "--input", "-")
	if r.Status != command.ExitFailure || r.Out != "" && !strings.HasPrefix(r.Out, `{"input_ids":[101,`) || strings.Count(r.Out, "\n") > 1 {
		t.Errorf("status %d, standard output %q", r.Status, r.Out)
	}
	for _, want := range []string{"standard input", "line 2", `"query" is missing`} {
		if !strings.Contains(r.ErrOut, want) {
			t.Errorf("standard error %q lacks %q", r.ErrOut, want)
		}
	}
	r = mlxrank.Run(t, "", "tokenize", "--model", model, "--input", model+"/none")
	clitest.CheckFailure(t, r, command.ExitFailure, model+"/none", "no such file")
	r = mlxrank.Run(t, clitest.PairLines(1), "tokenize", "--model", model, "--input", "-", "--max-length", "6")
	if !strings.Contains(r.Out, `"truncated":true`) {
		t.Errorf("--max-length 6: got %s", r.Out)
	}
}

// TestTokenizeFormats tokenises the same pairs in every format, scored or not.
func TestTokenizeFormats(t *testing.T) {
	model, dir := clitest.TinyModel(t), t.TempDir()
	queries := clitest.WriteFile(t, filepath.Join(dir, "queries"), "q1\tcity\n")
	documents := clitest.WriteFile(t, filepath.Join(dir, "documents"), "d1\tpage 1 of 2\n")
	want := mlxrank.MustRun(t, `{"query":"city","document":"page 1 of 2"}`, "tokenize", "--model", model, "--input", "-").Out
	for text, flags := range map[string][]string{
		"city\tpage 1 of 2":                                   nil,
		"city\tpage 1 of 2\t0.5\r\n":                          nil,
		"1\t2\tcity\tpage 1 of 2\n":                           nil,
		`{"query":"city","document":"page 1 of 2","score":1}`: nil,
		"q1 Q0 d1 1 0.5 tag\n":                                {"--queries", queries, "--documents", documents},
	} {
		args := append([]string{"tokenize", "--model", model, "--input", "-"}, flags...)
		if r := mlxrank.MustRun(t, text, args...); r.Out != want {
			t.Errorf("%q: got %s, want %s", text, r.Out, want)
		}
	}
}

// Token strings stand beside the ids, word pieces with their prefix.
func TestTokenizeStrings(t *testing.T) {
	r := mlxrank.MustRun(t, "colorizing\tterminal\n", "tokenize", "--tokens", "--model", "builtin", "--format", "tsv", "--input", "-")
	if want := `"tokens":["[CLS]","color","##izing","[SEP]","terminal","[SEP]"]`; !strings.Contains(r.Out, want) {
		t.Errorf("got %s, want %s", r.Out, want)
	}
}
