package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

func TestTokenize(t *testing.T) {
	model := tinyModel(t)
	e := openEngine(t, model)
	lines := pairLines(3) + `{"query": "", "document": "", "score": 1}` + "\n" +
		`{"query": "the city", "document": "` + strings.Repeat("river ", 300) + `"}` + "\n"
	r := mlxrank.mustRun(t, lines, "tokenize", "--model", model, "--input", "-")
	if r.errOut != "" {
		t.Errorf("standard error has %q", r.errOut)
	}
	in, out := strings.Split(strings.TrimSpace(lines), "\n"), strings.Split(strings.TrimSpace(r.out), "\n")
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
	model := tinyModel(t)
	file := filepath.Join(t.TempDir(), "pairs.jsonl")
	if err := os.WriteFile(file, []byte(pairLines(1)+"{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := mlxrank.run(t, "", "tokenize", "--model", model, "--input", file)
	checkFailure(t, r, exitFailure, file, "line 2", `"query" is missing`)
	// What comes through a pipe is answered as it comes: the line before the bad
	// one perhaps, as they may have come together.
	r = mlxrank.run(t, pairLines(1)+"{}", "tokenize", "--model", model, "--input", "-")
	if r.status != exitFailure || r.out != "" && !strings.HasPrefix(r.out, `{"input_ids":[101,`) || strings.Count(r.out, "\n") > 1 {
		t.Errorf("status %d, standard output %q", r.status, r.out)
	}
	for _, want := range []string{"standard input", "line 2", `"query" is missing`} {
		if !strings.Contains(r.errOut, want) {
			t.Errorf("standard error %q lacks %q", r.errOut, want)
		}
	}
	r = mlxrank.run(t, "", "tokenize", "--model", model, "--input", model+"/none")
	checkFailure(t, r, exitFailure, model+"/none", "no such file")
	r = mlxrank.run(t, pairLines(1), "tokenize", "--model", model, "--input", "-", "--max-length", "6")
	if !strings.Contains(r.out, `"truncated":true`) {
		t.Errorf("--max-length 6: got %s", r.out)
	}
}

// TestTokenizeFormats tokenises the same pairs in every format, scored or not.
func TestTokenizeFormats(t *testing.T) {
	model, dir := tinyModel(t), t.TempDir()
	queries := writeFile(t, filepath.Join(dir, "queries"), "q1\tcity\n")
	documents := writeFile(t, filepath.Join(dir, "documents"), "d1\tpage 1 of 2\n")
	want := mlxrank.mustRun(t, `{"query":"city","document":"page 1 of 2"}`, "tokenize", "--model", model, "--input", "-").out
	for text, flags := range map[string][]string{
		"city\tpage 1 of 2":                                   nil,
		"city\tpage 1 of 2\t0.5\r\n":                          nil,
		"1\t2\tcity\tpage 1 of 2\n":                           nil,
		`{"query":"city","document":"page 1 of 2","score":1}`: nil,
		"q1 Q0 d1 1 0.5 tag\n":                                {"--queries", queries, "--documents", documents},
	} {
		args := append([]string{"tokenize", "--model", model, "--input", "-"}, flags...)
		if r := mlxrank.mustRun(t, text, args...); r.out != want {
			t.Errorf("%q: got %s, want %s", text, r.out, want)
		}
	}
}
