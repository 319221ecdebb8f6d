package eval

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func TestErrors(t *testing.T) {
	dir, run := beir(t)
	model := clitest.TinyModel(t)
	qrels := filepath.Join(dir, "qrels", "test.tsv")
	write := func(name, text string) string { return clitest.WriteFile(t, filepath.Join(t.TempDir(), name), text) }
	words := func(text ...string) []string { return text }
	texts := "--queries " + filepath.Join(dir, "queries.jsonl") + " --documents " + filepath.Join(dir, "corpus.jsonl")
	reranked := "--beir " + dir + " --run " + run + " --model " + model + " "
	compared := "--qrels " + qrels + " --run " + run + " "
	for _, test := range []struct {
		name, args string
		status     int
		words      []string
	}{
		{"nothing", "", command.ExitUsage, words("no run to evaluate", "--run FILE", "--demo")},
		{"an argument", compared + "x", command.ExitUsage, words(`no argument "x"`)},
		{"no judgements", "--run " + run, command.ExitUsage, words("--qrels is missing")},
		{"no documents", compared + "--queries q", command.ExitUsage, words("--queries and --documents belong together")},
		{"run and candidates", "--run " + run + " --candidates c", command.ExitUsage, words("--candidates and --run", "choose one")},
		{"candidates and BEIR", "--candidates c --beir d", command.ExitUsage, words("--candidates has texts of its own")},
		{"BEIR and queries", reranked + "--queries q", command.ExitUsage, words("--beir has queries")},
		{"model without texts", compared + "--model m", command.ExitUsage, words("--model needs texts", "--beir DIR")},
		{"dtype without texts", compared + "--dtype float32", command.ExitUsage, words("--dtype needs texts")},
		{"plot without a model", compared + "--plot a.png", command.ExitUsage, words("--plot needs a model")},
		{"depth without a model", compared + "--depth 3", command.ExitUsage, words("--depth needs a model")},
		{"thresholds without a model", compared + "--thresholds", command.ExitUsage, words("--thresholds needs a model")},
		{"two outputs", compared + "--json --markdown", command.ExitUsage, words("--json and --markdown")},
		{"TSV and JSON", compared + "--json --per-query -", command.ExitUsage, words("--per-query -", "--json")},
		{"plot of another format", reranked + "--plot a.pdf", command.ExitUsage, words(`"a.pdf"`, ".png or .svg")},
		{"output to a folder", reranked + "--write-run " + dir, command.ExitUsage, words("--write-run", "is a directory")},
		{"output into nothing", reranked + "--write-run /none/r.run", command.ExitFailure, words("--write-run", "/none")},
		{"output to an input", reranked + "--write-run " + run, command.ExitUsage, words("is an input")},
		{"output to standard output", reranked + "--write-run -", command.ExitUsage, words("not standard output")},
		{"an empty name", reranked + "--write-run=", command.ExitUsage, words("--write-run is empty")},
		{"one file for two", reranked + "--write-run x.svg --plot x.svg", command.ExitUsage, words("--write-run and --plot both name x.svg")},
		{"calibration to a device", reranked + "--write-calibration /dev/null", command.ExitUsage, words("--write-calibration", "not a regular file")},
		{"calibration of several configurations", reranked + "--dtype float32,bfloat16 --write-calibration c", command.ExitUsage, words("--write-calibration", "found 2")},
		{"run of several configurations", reranked + "--dtype float32,bfloat16 --write-run r", command.ExitUsage, words("--write-run", "found 2")},
		{"unknown measure", compared + "--measures nDGC@10", command.ExitUsage, words("--measures", "nDGC", "nDCG@10")},
		{"measure twice", compared + "--measures AP,AP", command.ExitUsage, words("AP", "twice")},
		{"no measure", compared + "--measures=", command.ExitUsage, words("--measures")},
		{"flag of other programs", compared + "--metrics AP", command.ExitUsage, words("no flag --metrics", "use --measures LIST")},
		{"depth 0", reranked + "--depth 0", command.ExitUsage, words("--depth 0", "at least 1")},
		{"depth is text", reranked + "--depth 10,deep", command.ExitUsage, words(`--depth cannot be "10,deep"`)},
		{"depth twice", reranked + "--depth 10,10", command.ExitUsage, words("--depth has 10 twice")},
		{"dtype", reranked + "--dtype float32,int3", command.ExitUsage, words(`--dtype "int3"`, "bfloat16")},
		{"dtype twice", reranked + "--dtype float32,float32", command.ExitUsage, words("float32 twice")},
		{"length", reranked + "--max-length 128,2", command.ExitUsage, words("--max-length 2", "at least 3")},
		{"length is text", reranked + "--max-length long", command.ExitUsage, words(`--max-length cannot be "long"`)},
		{"model twice", reranked + "--model " + model, command.ExitUsage, words(model, "given twice")},
		{"an empty model", "--beir " + dir + " --run " + run + " --model=", command.ExitUsage, words("--model is empty")},
		{"adapter for two", reranked + "--model m --adapter a", command.ExitUsage, words("--adapter is for one model, found 2")},
		{"precision 0", reranked + "--precision 0", command.ExitUsage, words("--precision 0")},
		{"precision above 1", reranked + "--precision 1.5", command.ExitUsage, words("--precision 1.5")},
		{"examples", reranked + "--examples -1", command.ExitUsage, words("--examples -1")},

		{"missing file", "--qrels /none --run " + run, command.ExitFailure, words("/none", "no such file")},
		{"missing run", "--qrels " + qrels + " --run /none", command.ExitFailure, words("/none", "no such file")},
		{"not a BEIR folder", "--beir " + t.TempDir() + " --run " + run, command.ExitFailure, words("--beir", "queries.jsonl", "corpus.jsonl, queries.jsonl and qrels/test.tsv")},
		{"empty judgements", "--qrels " + write("q", "") + " --run " + run, command.ExitFailure, words("no judgements")},
		{"judgements twice", "--qrels " + write("q", "q1 0 d1 1\nq1 0 d1 2\n") + " --run " + run, command.ExitFailure, words("line 2", "d1")},
		{"relevance", "--qrels " + write("q", "q1 0 d1 1\nq1 0 d2 high\n") + " --run " + run, command.ExitFailure, words("line 2", `"high"`)},
		{"empty run", "--qrels " + qrels + " --run " + write("r", "\n"), command.ExitFailure, words("no lines")},
		{"document twice", compared + "--run " + write("r", "q1 Q0 d1 1 3 x\nq1 Q0 d1 2 2 x\n"), command.ExitFailure, words("line 2", "d1")},
		{"score", compared + "--run " + write("r", "q1 Q0 d1 1 nan x\n"), command.ExitFailure, words("line 1", "nan")},
		{"no shared query", "--qrels " + qrels + " --run " + write("r", "7 Q0 d1 1 3 x\n"), command.ExitFailure, words("no query in common", `"7"`, `"q0"`)},
		{"no shared document", "--qrels " + qrels + " --run " + write("r", "q1 Q0 doc1 1 3 x\n"), command.ExitFailure, words("no judged document", `"doc1"`, `"d2"`)},
		{"no shared query of another run", compared + "--run " + write("r", "7 Q0 d1 1 3 x\n"), command.ExitFailure, words("no query in common")},
		{"unknown document", "--qrels " + qrels + " " + texts + " --model " + model + " --run " + write("r", "q1 Q0 d2 1 3 x\nq1 Q0 none 2 2 x\n"), command.ExitFailure, words("line 2", `"none"`, "corpus.jsonl")},
		{"unknown query", "--qrels " + qrels + " " + texts + " --model " + model + " --run " + write("r", "q1 Q0 d2 1 3 x\nnone Q0 d1 2 2 x\n"), command.ExitFailure, words("line 2", `"none"`, "queries.jsonl")},
		{"no query in all runs", "--only-judged-queries --qrels " + qrels + " --run " + write("a", "q1 Q0 d2 1 3 x\n") + " --run " + write("b", "q2 Q0 d3 1 3 x\n"), command.ExitFailure, words("--only-judged-queries")},
	} {
		t.Run(test.name, func(t *testing.T) {
			clitest.CheckFailure(t, mlxrank.Run(t, "", append([]string{"eval"}, strings.Fields(test.args)...)...), test.status, test.words...)
		})
	}
}

// TestWhiteSpaceInIDs refuses to write a run that no program could read.
func TestWhiteSpaceInIDs(t *testing.T) {
	candidates := clitest.WriteFile(t, filepath.Join(t.TempDir(), "c.jsonl"), `{"query_id": "a b", "query": "city", "document": "london", "label": 1}
{"query_id": "a b", "query": "city", "document": "water", "label": 0}
`)
	args := []string{"eval", "--quiet", "--candidates", candidates, "--model", clitest.TinyModel(t)}
	if r := mlxrank.Run(t, "", args...); r.Status != command.ExitOK {
		t.Errorf("status %d: %s", r.Status, r.ErrOut)
	}
	r := mlxrank.Run(t, "", append(args, "--write-run", filepath.Join(t.TempDir(), "r"))...)
	if r.Status != command.ExitFailure || !strings.Contains(r.ErrOut, `"a b"`) || !strings.Contains(r.ErrOut, "white space") || !strings.Contains(r.Out, "depth curve") {
		t.Errorf("status %d: %s\n%s", r.Status, r.ErrOut, r.Out)
	}
}

// TestEnvironment takes lists from the environment, which does not matter where no
// model is opened.
func TestEnvironment(t *testing.T) {
	dir, run := beir(t)
	model := clitest.TinyModel(t)
	t.Setenv("MLXRANK_MODEL", model)
	t.Setenv("MLXRANK_DTYPE", "float32,bfloat16")
	t.Setenv("MLXRANK_MAX_LENGTH", "8,16")
	got := evalJSON(t, "--beir", dir, "--run", run, "--depth", "2").Configurations
	if len(got) != 4 || got[0].Model != model || got[3].DType != "bfloat16" || got[3].MaxLength != 16 {
		t.Errorf("%d configurations", len(got))
	}
	if got := evalJSON(t, "--qrels", filepath.Join(dir, "qrels", "test.tsv"), "--run", run); len(got.Configurations) != 0 {
		t.Errorf("%d configurations without texts", len(got.Configurations))
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "eval", "--beir", dir, "--run", run, "--dtype", "float64"), command.ExitUsage, `--dtype "float64"`)
	t.Setenv("MLXRANK_DTYPE", "float32,int3")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "eval", "--beir", dir, "--run", run), command.ExitUsage, `MLXRANK_DTYPE "int3"`)
}
