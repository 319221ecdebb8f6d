package weights

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

func TestOpenDirectory(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	m := openModel(t, dir, Options{})
	want := tinyConfig(1)
	if !reflect.DeepEqual(m.Config, want) {
		t.Errorf("config %+v, want %+v", m.Config, want)
	}
	if m.Ref != dir || m.Dir != dir || m.Adapter != "" || m.Scoring != ScoringSigmoid || m.MaxLength != 128 {
		t.Errorf("got ref %q, dir %q, adapter %q, scoring %q, length %d", m.Ref, m.Dir, m.Adapter, m.Scoring, m.MaxLength)
	}
	tensors := weightstest.Tensors(tinySpec())
	if len(m.Tensors) != len(tensors) {
		t.Fatalf("%d tensors, want %d", len(m.Tensors), len(tensors))
	}
	for i, w := range tensors {
		g := m.Tensors[i]
		if g.Name != w.Name || g.DType != F32 || !slices.Equal(g.Shape, w.Shape) || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("tensor %d is %s %s %v, want %s %v, or its data differ", i, g.Name, g.DType, g.Shape, w.Name, w.Shape)
		}
	}
	tokenizer, err := ParseTokenizer(readFile(t, filepath.Join(dir, tokenizerFile)), m.Config.VocabSize)
	if err != nil || !bytes.Equal(m.Tokenizer.JSON(), tokenizer.JSON()) {
		t.Errorf("Tokenizer differs from the file: %v", err)
	}
}

// TestOpenOtherTensorNames opens checkpoints that use other tensor names.
func TestOpenOtherTensorNames(t *testing.T) {
	t.Parallel()
	dir := tinyDir(t)
	want := openModel(t, dir, Options{}).Tensors
	rename := strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta")
	other := tinyDir(t)
	rewrite(t, other, func(tensors []weightstest.Tensor) []weightstest.Tensor {
		for i := range tensors {
			if !strings.HasPrefix(tensors[i].Name, "classifier.") {
				tensors[i].Name = "bert." + rename.Replace(tensors[i].Name)
			}
		}
		slices.Reverse(tensors)
		ids := weightstest.Tensor{Name: "bert.embeddings.position_ids", DType: "I64", Shape: []int{1, 128}, Data: make([]byte, 8*128)}
		head := weightstest.F32("cls.seq_relationship.bias", []int{2}, []float32{1, 2})
		return append(tensors, ids, head)
	})
	m := openModel(t, other, Options{})
	if len(m.Tensors) != len(want) {
		t.Fatalf("%d tensors, want %d", len(m.Tensors), len(want))
	}
	for i, w := range want {
		if g := m.Tensors[i]; g.Name != w.Name || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("tensor %d is %s, want %s, or its data differ", i, g.Name, w.Name)
		}
	}
}

func TestOpenBadReference(t *testing.T) {
	hubtest.New(t).Use(t)
	file := filepath.Join(t.TempDir(), "file")
	weightstest.WriteFile(t, file, nil)
	tests := []struct {
		ref  string
		want []string
	}{
		{"/no/such/dir", []string{`"/no/such/dir"`, "no such directory"}},
		{"./no", []string{"no such directory"}},
		{"no/such/dir", []string{"no such directory"}},
		{"", []string{`model ""`, "no such directory"}},
		{"bert-base-uncased", []string{"no such directory", "expected ORG/NAME"}},
		{"org/name@", []string{"no such directory", "after the @"}},
		{"org/name", []string{`"org/name"`, "no such directory", "no such model on the hub", "spelling", "HF_TOKEN"}},
		{"nothing\x00here", []string{"invalid argument"}},
		{file, []string{file, "is not a directory"}},
	}
	for _, test := range tests {
		_, err := Open(t.Context(), test.ref, Options{})
		wantError(t, err, test.want...)
	}
}

// TestOpenPointersAndWebPages checks that the error identifies a Git LFS pointer or a web
// page that was saved instead of a file.
func TestOpenPointersAndWebPages(t *testing.T) {
	t.Parallel()
	pointer := []byte("version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("ab", 32) + "\nsize 90868376\n")
	for _, name := range []string{configFile, tokenizerFile, weightsFile} {
		dir := tinyDir(t)
		path := filepath.Join(dir, name)
		weightstest.WriteFile(t, path, pointer)
		_, err := Open(t.Context(), dir, Options{})
		wantError(t, err, path+" is a Git LFS pointer", "git lfs pull in "+dir)
		weightstest.WriteFile(t, path, []byte("\n<!DOCTYPE html>\n<html><head>Sign in</head></html>"))
		_, err = Open(t.Context(), dir, Options{})
		wantError(t, err, path+" is a web page")
	}
	adapter := adapterDir(t, nil, nil)
	weightstest.WriteFile(t, filepath.Join(adapter, adapterFile), pointer)
	_, err := Open(t.Context(), tinyDir(t), Options{Adapter: adapter})
	wantError(t, err, adapterFile, "is a Git LFS pointer")
}

// TestOpenAdapterAsModel checks the errors for an adapter given as a model, and the reverse.
func TestOpenAdapterAsModel(t *testing.T) {
	adapter := adapterDir(t, map[string]any{"base_model_name_or_path": "org/base"}, nil)
	_, err := Open(t.Context(), adapter, Options{})
	wantError(t, err, "it is a PEFT adapter, not a model", "--model org/base --adapter "+adapter)
	dir := tinyDir(t)
	_, err = Open(t.Context(), dir, Options{Adapter: dir})
	wantError(t, err, adapterConfigFile, "whole model")
	_, err = Open(t.Context(), filepath.Join(dir, weightsFile), Options{})
	wantError(t, err, "give the directory of the model's files, "+dir)
	s, _ := startHub(t)
	s.Repos[hubModel].Files = map[string][]byte{adapterConfigFile: []byte("{}"), adapterFile: nil}
	_, err = Open(t.Context(), hubModel, Options{})
	wantError(t, err, "a PEFT adapter, not a model", "--adapter DIR")
}

// TestOpenBadDirectory damages one thing at a time.
func TestOpenBadDirectory(t *testing.T) {
	t.Parallel()
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { weightstest.WriteFile(t, filepath.Join(dir, name), []byte(text)) }
	}
	instead := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			remove(weightsFile)(t, dir)
			write(name, "x")(t, dir)
		}
	}
	cut := func(name string, keep int) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, name), int64(keep)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tensors := func(edit func(*testing.T, []weightstest.Tensor) []weightstest.Tensor) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			rewrite(t, dir, func(ts []weightstest.Tensor) []weightstest.Tensor { return edit(t, ts) })
		}
	}
	spoil := func(name string, index int, value float64) func(*testing.T, string) {
		return tensors(func(t *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			data := find(t, ts, name).Data
			binary.LittleEndian.PutUint32(data[4*index:], math.Float32bits(float32(value)))
			return ts
		})
	}
	tests := []struct {
		name  string
		spoil func(*testing.T, string)
		want  []string
	}{
		{"config missing", remove(configFile), []string{"config.json is missing"}},
		{"config truncated", cut(configFile, 40), []string{"config.json", "not valid JSON near byte 40"}},
		{"config empty", cut(configFile, 0), []string{"config.json", "not valid JSON"}},
		{"config not JSON", write(configFile, "hello"), []string{"config.json", "not valid JSON"}},
		{"config of another model", write(configFile, `{"model_type":"llama"}`), []string{"config.json", `model_type "llama" is not supported`, `"bert"`}},
		{"config too large", write(configFile, strings.Repeat(" ", maxConfig+1)), []string{"config.json", "too large"}},
		{"tokenizer missing", remove(tokenizerFile), []string{"tokenizer.json is missing"}},
		{"tokenizer truncated", cut(tokenizerFile, 100), []string{"tokenizer.json", "not valid JSON near byte 100"}},
		{"tokenizer not JSON", write(tokenizerFile, "\x00"), []string{"tokenizer.json", "not valid JSON"}},
		{"tokenizer of another kind", write(tokenizerFile, `{"model":{"type":"WordLevel","vocab":{"a":1}}}`), []string{"tokenizer.json", `"WordLevel" is not supported`, "WordPiece"}},
		{"tokenizer too large", func(t *testing.T, dir string) {
			weightstest.WriteJSON(t, filepath.Join(dir, tokenizerFile), weightstest.Tokenizer(1001))
		}, []string{"tokenizer.json", "token id 1000", "vocab_size 1000"}},
		{"tokenizer config not JSON", write(tokenizerConfigFile, `{"model_max_length":`), []string{"tokenizer_config.json", "not valid JSON"}},
		{"sentence config not JSON", write(sentenceConfigFile, `{"`), []string{"config_sentence_transformers.json", "not valid JSON"}},
		{"weights missing", remove(weightsFile), []string{"model.safetensors is missing"}},
		{"weights pickled", instead("pytorch_model.bin"), []string{"model.safetensors is missing", "pytorch_model.bin", "convert"}},
		{"weights empty", cut(weightsFile, 0), []string{"model.safetensors", "truncated", "0 bytes"}},
		{"weights truncated in the header", cut(weightsFile, 100), []string{"model.safetensors", "truncated", "found 92"}},
		{"weights truncated in the data", cut(weightsFile, 30000), []string{"model.safetensors", "truncated", "embeddings.word_embeddings.weight"}},
		{"weights are a Git LFS pointer", write(weightsFile, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), []string{"model.safetensors", "Git LFS pointer"}},
		{"weights are a directory", func(t *testing.T, dir string) {
			remove(weightsFile)(t, dir)
			if err := os.Mkdir(filepath.Join(dir, weightsFile), 0o755); err != nil {
				t.Fatal(err)
			}
		}, []string{"model.safetensors", "not a regular file"}},
		{"weights are a pipe", func(t *testing.T, dir string) {
			remove(weightsFile)(t, dir)
			if err := syscall.Mkfifo(filepath.Join(dir, weightsFile), 0o644); err != nil {
				t.Fatal(err)
			}
		}, []string{"model.safetensors", "not a regular file"}},
		{"wrong shape", tensors(func(t *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			find(t, ts, "encoder.layer.1.intermediate.dense.weight").Shape = []int{8, 32}
			return ts
		}), []string{"model.safetensors", `"encoder.layer.1.intermediate.dense.weight"`, "shape [8 32], expected [32 8]"}},
		{"wrong labels", tensors(func(t *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			*find(t, ts, "classifier.weight") = weightstest.F32("classifier.weight", []int{3, 8}, make([]float32, 24))
			return ts
		}), []string{`"classifier.weight"`, "shape [3 8], expected [1 8]"}},
		{"wrong dtype", tensors(func(t *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			find(t, ts, "pooler.dense.weight").DType = "I32"
			return ts
		}), []string{`"pooler.dense.weight"`, "dtype I32, expected F32, F16 or BF16"}},
		{"two names for one tensor", tensors(func(t *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			twin := *find(t, ts, "pooler.dense.weight")
			twin.Name = "bert.pooler.dense.weight"
			return append(ts, twin)
		}), []string{`"bert.pooler.dense.weight"`, "same tensor", `"pooler.dense.weight"`}},
		{"one tensor missing", tensors(func(_ *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			return slices.DeleteFunc(ts, func(x weightstest.Tensor) bool { return x.Name == "pooler.dense.bias" })
		}), []string{"1 of 41 tensors missing: pooler.dense.bias"}},
		{"a layer missing", tensors(func(_ *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			return slices.DeleteFunc(ts, func(x weightstest.Tensor) bool { return strings.Contains(x.Name, "layer.1.") })
		}), []string{"16 of 41 tensors missing", "encoder.layer.1.attention.self.query.weight", "and 8 more"}},
		{"no classifier", tensors(func(_ *testing.T, ts []weightstest.Tensor) []weightstest.Tensor {
			return ts[:len(ts)-2]
		}), []string{"classifier.weight, classifier.bias", "adapter"}},
		{"NaN", spoil("encoder.layer.0.output.dense.weight", 130, math.NaN()), []string{`"encoder.layer.0.output.dense.weight"`, "NaN at index 130"}},
		{"infinity", spoil("embeddings.LayerNorm.bias", 7, math.Inf(-1)), []string{`"embeddings.LayerNorm.bias"`, "-Inf at index 7"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := tinyDir(t)
			test.spoil(t, dir)
			m, err := Open(t.Context(), dir, Options{})
			if err == nil {
				closeModel(t, m)
			}
			wantError(t, err, append(test.want, dir)...)
		})
	}
}

func TestOpenHalfPrecision(t *testing.T) {
	t.Parallel()
	for _, dtype := range []DType{F16, BF16} {
		dir := tinyDir(t)
		rewrite(t, dir, func(tensors []weightstest.Tensor) []weightstest.Tensor {
			for i := range tensors {
				tensors[i] = narrow(tensors[i], dtype)
			}
			return tensors
		})
		m := openModel(t, dir, Options{})
		for i, tensor := range m.Tensors {
			if tensor.DType != dtype {
				t.Fatalf("%s: tensor %d is %s", dtype, i, tensor.DType)
			}
		}
		rewrite(t, dir, func(tensors []weightstest.Tensor) []weightstest.Tensor {
			for i := range tensors {
				tensors[i] = narrow(tensors[i], dtype)
			}
			copy(find(t, tensors, "pooler.dense.bias").Data[6:], []byte{0xff, 0x7f})
			return tensors
		})
		_, err := Open(t.Context(), dir, Options{})
		wantError(t, err, `"pooler.dense.bias"`, "NaN at index 3")
	}
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	m, err := Open(t.Context(), tinyDir(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if m.Tensors != nil {
		t.Error("a closed model still has tensors")
	}
}

// narrow converts an F32 tensor by truncation.
func narrow(t weightstest.Tensor, dtype DType) weightstest.Tensor {
	var data []byte
	for i := 0; i < len(t.Data); i += 4 {
		bits := binary.LittleEndian.Uint32(t.Data[i:])
		half := uint16(bits >> 16)
		if dtype == F16 {
			half = uint16(bits>>16&0x8000) | uint16(bits>>13&0x3ff)
			if exp := int(bits>>23&0xff) - 112; exp > 0 {
				half |= uint16(exp) << 10
			}
		}
		data = binary.LittleEndian.AppendUint16(data, half)
	}
	t.DType, t.Data = string(dtype), data
	return t
}
