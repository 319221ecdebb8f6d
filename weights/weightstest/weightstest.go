// Package weightstest builds small model directories for tests: a config, a
// WordPiece tokenizer and weights. The weights depend only on a seed, so a
// program in another language can make the same files, bit for bit.
package weightstest

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Spec describes a synthetic model.
type Spec struct {
	// Config is config.json. It must hold the sizes of the model. The defaults of
	// model_type and architectures name a BERT classifier.
	Config map[string]any
	// Seed determines the values of the weights.
	Seed uint64
}

// A Tensor is a named array in a safetensors file.
type Tensor struct {
	Name  string
	DType string
	Shape []int
	Data  []byte // little-endian, row-major
}

// Tiny returns the config of a small model with one label, 1,000 tokens and
// 128 positions. hidden must be a multiple of heads.
func Tiny(hidden, heads, layers int) map[string]any {
	return map[string]any{
		"vocab_size": 1000, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
		"intermediate_size": 4 * hidden, "max_position_embeddings": 128, "type_vocab_size": 2,
		"layer_norm_eps": 1e-12, "hidden_act": "gelu", "id2label": map[string]any{"0": "LABEL_0"},
	}
}

// Write creates dir with the files of the model.
func Write(t testing.TB, dir string, spec Spec) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config := map[string]any{"model_type": "bert", "architectures": []string{"BertForSequenceClassification"}}
	maps.Copy(config, spec.Config)
	positions := size(config, "max_position_embeddings")
	WriteJSON(t, filepath.Join(dir, "config.json"), config)
	WriteJSON(t, filepath.Join(dir, "tokenizer.json"), Tokenizer(size(config, "vocab_size")))
	WriteJSON(t, filepath.Join(dir, "tokenizer_config.json"), map[string]any{
		"do_lower_case": true, "model_max_length": positions, "tokenizer_class": "BertTokenizer",
	})
	WriteFile(t, filepath.Join(dir, "model.safetensors"), Encode(Tensors(spec)))
}

// WriteJSON writes v as a JSON file.
func WriteJSON(t testing.TB, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, path, data)
}

// WriteFile writes a file.
func WriteFile(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Tensors returns the weights of a model, in canonical order, as F32.
func Tensors(spec Spec) []Tensor {
	c := spec.Config
	hidden, ffn := size(c, "hidden_size"), size(c, "intermediate_size")
	var tensors []Tensor
	add := func(name string, shape ...int) {
		tensors = append(tensors, F32(name, shape, Values(name, shape, spec.Seed)))
	}
	module := func(name string, shape ...int) {
		add(name+".weight", shape...)
		add(name+".bias", shape[0])
	}
	add("embeddings.word_embeddings.weight", size(c, "vocab_size"), hidden)
	add("embeddings.position_embeddings.weight", size(c, "max_position_embeddings"), hidden)
	add("embeddings.token_type_embeddings.weight", size(c, "type_vocab_size"), hidden)
	module("embeddings.LayerNorm", hidden)
	for i := range size(c, "num_hidden_layers") {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		module(layer+"attention.self.query", hidden, hidden)
		module(layer+"attention.self.key", hidden, hidden)
		module(layer+"attention.self.value", hidden, hidden)
		module(layer+"attention.output.dense", hidden, hidden)
		module(layer+"attention.output.LayerNorm", hidden)
		module(layer+"intermediate.dense", ffn, hidden)
		module(layer+"output.dense", hidden, ffn)
		module(layer+"output.LayerNorm", hidden)
	}
	module("pooler.dense", hidden, hidden)
	module("classifier", labels(c), hidden)
	return tensors
}

// Values returns the values of one tensor. They are uniform in a range that depends
// on the kind of tensor, from splitmix64 seeded with the name and seed.
// Under the race detector the loop would take most of the time of tests with large
// models; it has no goroutine.
//
//go:norace
func Values(name string, shape []int, seed uint64) []float32 {
	h := fnv.New64a()
	if _, err := h.Write([]byte(name)); err != nil {
		panic(err) // a hash never fails
	}
	state := h.Sum64() ^ seed
	n := 1
	for _, d := range shape {
		n *= d
	}
	scale, offset := spread(name, shape)
	values := make([]float32, n)
	for i := range values {
		state += 0x9E3779B97F4A7C15
		z := state
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		u := float64(z>>40)/(1<<23) - 1
		values[i] = float32(offset + u*scale) // exact before it is rounded to float32
	}
	return values
}

// spread returns half the width and the middle of a tensor's range. For a dense
// weight, half the width is the largest power of two with which the variance of
// the output stays below twice the variance of the input.
func spread(name string, shape []int) (scale, offset float64) {
	module := name[:max(strings.LastIndexByte(name, '.'), 0)]
	last := module[strings.LastIndexByte(module, '.')+1:]
	switch {
	case strings.Contains(strings.ToLower(last), "norm"): // every architecture names LayerNorms so
		if strings.HasSuffix(name, ".weight") {
			return 0.25, 1
		}
		return 0.25, 0
	case strings.HasSuffix(name, "embeddings.weight"):
		return 1, 0
	case strings.HasSuffix(name, ".bias"):
		return 0.0625, 0
	case name == "classifier.weight":
		return 0.25, 0
	}
	scale = 1
	for scale*scale*float64(shape[1]) >= 6 {
		scale /= 2
	}
	return scale, 0
}

// F32 returns a tensor of float32 values.
//
//go:norace
func F32(name string, shape []int, values []float32) Tensor {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(v))
	}
	return Tensor{Name: name, DType: "F32", Shape: shape, Data: data}
}

// Encode returns a safetensors file with the tensors in the given order.
func Encode(tensors []Tensor) []byte {
	file := encodeHeader(tensors, func(t Tensor) int { return len(t.Data) })
	for _, t := range tensors {
		file = append(file, t.Data...)
	}
	return file
}

// encodeHeader returns a safetensors file up to its data, which has size(t) bytes for
// each tensor.
func encodeHeader(tensors []Tensor, size func(Tensor) int) []byte {
	header := []byte{'{'}
	at := 0
	for i, t := range tensors {
		if i > 0 {
			header = append(header, ',')
		}
		shape := strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ",")
		end := at + size(t)
		header = fmt.Appendf(header, `%q:{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, t.Name, t.DType, shape, at, end)
		at = end
	}
	header = append(header, '}')
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
}

// size returns an integer of a config, which may be an int or a decoded JSON
// number.
func size(config map[string]any, key string) int {
	switch n := config[key].(type) {
	case int:
		return n
	case float64:
		return int(n)
	}
	panic(fmt.Sprintf("weightstest: config has no number %q", key))
}

// labels returns the number of labels by Hugging Face's rule.
func labels(config map[string]any) int {
	if names, ok := config["id2label"].(map[string]any); ok {
		return len(names)
	}
	if _, ok := config["num_labels"]; ok {
		return size(config, "num_labels")
	}
	return 2
}

// Split replaces model.safetensors with several shards and an index, as Hugging
// Face saves large models.
func Split(t testing.TB, dir string, tensors []Tensor, files int) {
	t.Helper()
	places := map[string]string{}
	for i := range files {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, files)
		part := tensors[i*len(tensors)/files : (i+1)*len(tensors)/files]
		for _, tensor := range part {
			places[tensor.Name] = name
		}
		WriteFile(t, filepath.Join(dir, name), Encode(part))
	}
	WriteJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": places})
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
}
