package weights

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// TestOpenBuiltin needs the encoder that `make build` downloads.
func TestOpenBuiltin(t *testing.T) {
	t.Parallel()
	m := openModel(t, Builtin, Options{})
	want := Config{
		VocabSize: 30522, HiddenSize: 384, Layers: 6, Heads: 12, IntermediateSize: 1536, MaxPositions: 512,
		TypeVocabSize: 2, Labels: 1, LayerNormEps: 1e-12, Activation: GELU,
		EmbeddingSize: 384, Pooling: PoolCLS,
		Head: []HeadStep{{Name: "pooler.dense", Out: 384, Activation: Tanh}, {Name: "classifier", Out: 1, Activation: Identity}},
	}
	if !reflect.DeepEqual(m.Config, want) {
		t.Errorf("config %+v, want %+v", m.Config, want)
	}
	if m.Ref != Builtin || m.Adapter != Builtin || m.MaxLength != 512 || m.Scoring != ScoringSigmoid || len(m.Tensors) != 105 {
		t.Errorf("got ref %q, adapter %q, length %d, scoring %q, %d tensors", m.Ref, m.Adapter, m.MaxLength, m.Scoring, len(m.Tensors))
	}
}

func TestBuiltinAlone(t *testing.T) {
	t.Parallel()
	dir, err := findBuiltin("")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), dir, Options{})
	wantError(t, err, "2 of 105 tensors missing: classifier.weight, classifier.bias", "adapter")
	_, err = Open(t.Context(), Builtin, Options{Adapter: "some/adapter"})
	wantError(t, err, "already has an adapter", "some/adapter", dir)
}

// TestBuiltinLengthIgnoresItsFiles checks that the length is 512 even though the
// encoder's tokenizer files give another limit.
func TestBuiltinLengthIgnoresItsFiles(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	weightstest.WriteFile(t, filepath.Join(dir, tokenizerConfigFile), []byte(`{"model_max_length":64}`))
	m := &Model{Ref: Builtin, Dir: dir}
	if err := m.loadTokenizer(modelConfig{Config: Config{VocabSize: 1000, MaxPositions: 512, TypeVocabSize: 2}}, sentenceSettings{}); err != nil || m.MaxLength != 512 {
		t.Errorf("length %d, %v, want 512", m.MaxLength, err)
	}
}

func TestBuiltinDirectories(t *testing.T) {
	dir := tinyDir(t)
	t.Setenv(BuiltinEnv, dir)
	_, err := Open(t.Context(), Builtin, Options{})
	wantError(t, err, dir, "builtin adapter", `adapter for "sentence-transformers/all-MiniLM-L6-v2"`, "pooler.dense.weight", "shape [384 384], expected [8 8]")

	missing := filepath.Join(t.TempDir(), "missing")
	t.Setenv(BuiltinEnv, missing)
	_, err = Open(t.Context(), Builtin, Options{})
	wantError(t, err, BuiltinEnv+"="+missing, "no such directory")

	if err := os.Unsetenv(BuiltinEnv); err != nil { // t.Setenv restores it
		t.Fatal(err)
	}
	root := t.TempDir()
	weightstest.WriteFile(t, filepath.Join(root, "go.mod"), []byte("module m\n"))
	deep := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(deep)
	_, err = Open(t.Context(), Builtin, Options{})
	exe, exeErr := os.Executable()
	if exeErr != nil {
		t.Fatal(exeErr)
	}
	inTree := filepath.Join(root, "build", "models", "all-MiniLM-L6-v2")
	wantError(t, err, inTree, filepath.Join(filepath.Dir(exe), "models", "all-MiniLM-L6-v2"),
		filepath.Join(filepath.Dir(filepath.Dir(exe)), "models", "all-MiniLM-L6-v2"),
		filepath.Join(filepath.Dir(filepath.Dir(exe)), "share", "mlxrank", "models", "all-MiniLM-L6-v2"), "make build", BuiltinEnv)

	bundled := filepath.Join(filepath.Dir(filepath.Dir(exe)), "Resources", "mlxrank", "models", "all-MiniLM-L6-v2")
	if got := strings.Contains(err.Error(), bundled); got != (runtime.GOOS == "darwin") {
		t.Errorf("error names the Resources of a bundle: %v, on %s", got, runtime.GOOS)
	}

	weightstest.Write(t, inTree, tinySpec())
	if got, err := findBuiltin(""); err != nil || got != inTree {
		t.Errorf("found %q, %v, want %q", got, err, inTree)
	}
}
