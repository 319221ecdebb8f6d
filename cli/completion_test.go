package cli

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

func TestCompletionCandidates(t *testing.T) {
	for _, test := range []struct {
		words []string
		want  []string
	}{
		{[]string{"re"}, []string{"rerank"}},
		{[]string{"frob", ""}, nil},
		{[]string{"rerank", "--de"}, []string{"--device"}},
		{[]string{"rerank", "--device", ""}, []string{"auto", "gpu", "cpu"}},
		{[]string{"rerank", "a passage", "--device", "g"}, []string{"gpu"}},
		{[]string{"rerank", "--long", "p"}, []string{"passages"}},
		{[]string{"rerank", "--documents", ""}, nil}, // files
		{[]string{"rerank", "--json", ""}, nil},
		{[]string{"eval", "--dtype", "f"}, []string{"float32", "float16"}},
		{[]string{"bench", "--format", ""}, []string{"text", "benchstat"}},
		{[]string{"bench", "compare", "--format", ""}, []string{"text", "json", "benchstat"}},
		{[]string{"bench", "--cpu"}, []string{"--cpuprofile"}}, // and not the deprecated --cpu-shards
		{[]string{"bench", "co"}, []string{"compare"}},
		{[]string{"bench", "compare", "--rou"}, []string{"--rounds"}},
		{[]string{"completion", ""}, []string{"bash", "fish", "zsh"}},
	} {
		r := mlxrank.MustRun(t, "", append([]string{completeCommand}, test.words...)...)
		if got := strings.Fields(r.Out); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.words, got, test.want)
		}
	}
	all := strings.Fields(mlxrank.MustRun(t, "", completeCommand, "").Out)
	if !slices.Contains(all, "score") || slices.Contains(all, completeCommand) {
		t.Errorf("commands %q", all)
	}
	if got := strings.Fields(mlxrank.MustRun(t, "", completeCommand).Out); !slices.Equal(got, all) {
		t.Errorf("without a word: %q, want all commands", got)
	}
}

// TestModelCompletion expects builtin and the models in the cache.
func TestModelCompletion(t *testing.T) {
	clitest.StartHub(t)
	mlxrank.MustRun(t, "", "model", "pull", clitest.HubModel)
	for _, test := range []struct {
		words []string
		want  []string
	}{
		{[]string{"rerank", "--model", ""}, []string{"builtin", clitest.HubModel}},
		{[]string{"serve", "--model", "org/"}, []string{clitest.HubModel}},
		{[]string{"rerank", "--model", "=", "b"}, []string{"builtin"}}, // as bash splits it
		{[]string{"rerank", "--model", "="}, []string{"builtin", clitest.HubModel}},
		{[]string{"rerank", "--model=org"}, []string{"--model=" + clitest.HubModel}},
		{[]string{"rerank", "--device=c"}, []string{"--device=cpu"}},
		{[]string{"rerank", "--model", "./"}, nil}, // directories
		{[]string{"model", "remove", "o"}, []string{clitest.HubModel}},
		{[]string{"model", "verify", ""}, []string{"builtin", clitest.HubModel}},
		{[]string{"model", "show", "--json", "b"}, []string{"builtin"}},
		{[]string{"model", "remove", "--y"}, []string{"--yes"}},
	} {
		r := mlxrank.MustRun(t, "", append([]string{completeCommand}, test.words...)...)
		if got := strings.Fields(r.Out); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.words, got, test.want)
		}
	}
}

// TestBashCompletion runs the script in bash with a stand-in for the program that
// records its arguments.
func TestBashCompletion(t *testing.T) {
	dir := t.TempDir()
	script := clitest.WriteFile(t, filepath.Join(dir, "script"), mlxrank.MustRun(t, "", "completion", "bash").Out)
	command := `mlxrank() { printf '%s|' "$@" >'` + dir + `/called'; printf 'auto\ngpu\ncpu\n'; }
source '` + script + `'; COMP_WORDS=(mlxrank rerank "a passage" --device g); COMP_CWORD=4; _mlxrank; echo "${COMPREPLY[*]}"; cat '` + dir + `/called'`
	out, err := exec.Command("bash", "-c", command).CombinedOutput()
	if want := "gpu\n__complete|rerank|a passage|--device|g|"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := mlxrank.MustRun(t, "", "completion", shell); !strings.Contains(r.Out, completeCommand) {
			t.Errorf("%s: %q", shell, r.Out)
		}
	}
	for _, args := range [][]string{{"completion"}, {"completion", "tcsh"}, {"completion", "bash", "zsh"}} {
		clitest.CheckFailure(t, mlxrank.Run(t, "", args...), command.ExitUsage, "bash, zsh, fish")
	}
}

// TestManual expects commands, examples, flags and the exit status in the manual.
func TestManual(t *testing.T) {
	page := mlxrank.MustRun(t, "", "man").Out
	for _, want := range []string{".TH", "rerank", "score", "resize photos", "--max-length", "MLXRANK_CONFIG", "EXIT STATUS", "model pull", "bench compare"} {
		if !strings.Contains(page, want) {
			t.Errorf("the manual lacks %q", want)
		}
	}
}
