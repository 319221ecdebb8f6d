package weights

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// splitDir writes the tiny model as three shards and returns its directory.
func splitDir(t *testing.T) string {
	t.Helper()
	dir := tinyDir(t)
	weightstest.Split(t, dir, weightstest.Tensors(tinySpec()), 3)
	return dir
}

func TestOpenShards(t *testing.T) {
	t.Parallel()
	want := openModel(t, tinyDir(t), Options{}).Tensors
	got := openModel(t, splitDir(t), Options{}).Tensors
	if len(got) != len(want) {
		t.Fatalf("%d tensors, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Name != want[i].Name || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("tensor %d is %s, want %s, or its data differ", i, got[i].Name, want[i].Name)
		}
	}
}

// TestOneFileComesBeforeTheIndex checks that an index is ignored if one file
// holds all weights.
func TestOneFileComesBeforeTheIndex(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	weightstest.WriteFile(t, filepath.Join(dir, indexFile), []byte("not JSON"))
	openModel(t, dir, Options{})
}

func TestOpenBadShards(t *testing.T) {
	t.Parallel()
	const second = "model-00002-of-00003.safetensors"
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { weightstest.WriteFile(t, filepath.Join(dir, name), []byte(text)) }
	}
	for _, test := range []struct {
		name  string
		spoil func(*testing.T, string)
		want  []string
	}{
		{"a shard missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, second)); err != nil {
				t.Fatal(err)
			}
		}, []string{second + " is missing", indexFile, "and 6 more"}},
		{"a shard truncated", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, second), 1000); err != nil {
				t.Fatal(err)
			}
		}, []string{second, "truncated"}},
		{"a shard of another model", func(t *testing.T, dir string) {
			tensors := []weightstest.Tensor{weightstest.F32("other.weight", []int{1}, []float32{1})}
			weightstest.WriteFile(t, filepath.Join(dir, second), weightstest.Encode(tensors))
		}, []string{second, "lacks tensors", indexFile}},
		{"a tensor in two shards", func(t *testing.T, dir string) {
			data := readFile(t, filepath.Join(dir, "model-00001-of-00003.safetensors"))
			weightstest.WriteFile(t, filepath.Join(dir, "twin.safetensors"), data)
			write(indexFile, `{"weight_map": {"embeddings.LayerNorm.bias": "twin.safetensors", "embeddings.LayerNorm.weight": "model-00001-of-00003.safetensors"}}`)(t, dir)
		}, []string{"same tensor", "twin.safetensors"}},
		{"index not JSON", write(indexFile, "{"), []string{indexFile, "not valid JSON"}},
		{"index empty", write(indexFile, "{}"), []string{indexFile, "weight_map"}},
		{"index of numbers", write(indexFile, `{"weight_map": {"a": 1}}`), []string{indexFile, "expected string"}},
		{"a shard in another directory", write(indexFile, `{"weight_map": {"a": "../secret.safetensors"}}`), []string{indexFile, "../secret", "without a path"}},
		{"a shard in another format", write(indexFile, `{"weight_map": {"a": "model.bin"}}`), []string{indexFile, "model.bin"}},
		{"index too long", write(indexFile, string(make([]byte, maxIndex+1))), []string{indexFile, "too large"}},
		{"tensors missing", write(indexFile, `{"weight_map": {"embeddings.LayerNorm.weight": "model-00001-of-00003.safetensors"}}`), []string{indexFile, "tensors missing"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := splitDir(t)
			test.spoil(t, dir)
			_, err := Open(t.Context(), dir, Options{})
			wantError(t, err, test.want...)
		})
	}
}

func TestLabelNames(t *testing.T) {
	t.Parallel()
	spec := tinySpec()
	spec.Config["id2label"] = map[string]any{"0": "contradiction", "1": "entailment", "2": "neutral"}
	dir := filepath.Join(t.TempDir(), "nli")
	weightstest.Write(t, dir, spec)
	m := openModel(t, dir, Options{})
	if got := m.LabelNames; len(got) != 3 || got[0] != "contradiction" || got[2] != "neutral" || m.Scoring != ScoringRaw {
		t.Errorf("labels %q, scoring %q; want the names of config.json and raw logits", got, m.Scoring)
	}
	if got := openModel(t, tinyDir(t), Options{}).LabelNames; len(got) != 1 || got[0] != "LABEL_0" {
		t.Errorf("labels %q, want LABEL_0", got)
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}`))
	f.Add([]byte(`{"weight_map": {"a": "../x.safetensors"}}`))
	f.Add([]byte(`{"weight_map": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		places, err := parseIndex(data)
		for tensor, shard := range places {
			if err == nil && filepath.Join("dir", shard) != "dir/"+shard {
				t.Errorf("tensor %q: shard %q leaves the directory", tensor, shard)
			}
		}
	})
}
