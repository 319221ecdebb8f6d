package rerank

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
)

// TestCache ranks twice with one directory: the second run computes what is new.
func TestCache(t *testing.T) {
	model, dir := clitest.TinyModel(t), filepath.Join(t.TempDir(), "scores")
	rank := func(cache []string, documents ...string) rankingJSON {
		args := append([]string{"--model", model, "--device", "cpu", "--query", "city"}, cache...)
		return rerankJSON(t, "", append(append(args, "--"), documents...)...)
	}
	plain := rank(nil, passages...)
	if plain.Run.CacheHits+plain.Run.CacheMisses != 0 {
		t.Errorf("a run without a cache counts %d hits and %d misses", plain.Run.CacheHits, plain.Run.CacheMisses)
	}
	first := rank([]string{"--cache", dir}, passages[:3]...)
	if first.Run.CacheHits != 0 || first.Run.CacheMisses != 3 {
		t.Errorf("the first run has %d hits and %d misses", first.Run.CacheHits, first.Run.CacheMisses)
	}
	t.Setenv("MLXRANK_CACHE", dir)
	second := rank(nil, passages...)
	if second.Run.CacheHits != 3 || second.Run.CacheMisses != len(passages)-3 {
		t.Errorf("the second run has %d hits and %d misses", second.Run.CacheHits, second.Run.CacheMisses)
	}
	for i, want := range plain.Results {
		if got := second.Results[i]; got.Logit != want.Logit || got.Index != want.Index {
			t.Errorf("place %d: logit %v of %d, want %v of %d", i, got.Logit, got.Index, want.Logit, want.Index)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", dir, info.Mode(), err)
	}
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--model", model, "--query", "q", "--cache", "", "d"), command.ExitUsage, "--cache is empty")
	file := clitest.WriteFile(t, filepath.Join(t.TempDir(), "file"), "text")
	clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--model", model, "--query", "q", "--cache", file, "d"), command.ExitFailure, "cache", file)
}
