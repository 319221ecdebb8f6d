package cli

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/cli/internal/clitest"
	"github.com/mlxrank/mlxrank/cli/internal/command"
	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/hub/hubtest"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// editTensor rewrites one tensor of a small model.
func editTensor(t *testing.T, dir, name string, change func(*weightstest.Tensor)) {
	t.Helper()
	tensors := weightstest.Tensors(weightstest.Spec{Config: weightstest.Tiny(64, 4, 2), Seed: 7})
	for i := range tensors {
		if tensors[i].Name == name {
			change(&tensors[i])
			weightstest.WriteFile(t, filepath.Join(dir, "model.safetensors"), weightstest.Encode(tensors))
			return
		}
	}
	t.Fatalf("no tensor %s", name)
}

// TestBadModel breaks each file of a model in each way: status 1, a message
// that names the file and the fault, and the old output untouched.
func TestBadModel(t *testing.T) {
	half := func(data []byte) []byte { return data[:len(data)/2] }
	text := func([]byte) []byte { return []byte("<html>not found</html>") }
	replace := func(from, to string) func([]byte) []byte {
		return func(data []byte) []byte { return bytes.Replace(data, []byte(from), []byte(to), 1) }
	}
	onFile := func(name string, change func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { clitest.Edit(t, filepath.Join(dir, name), change) }
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	onTensor := func(name string, change func(*weightstest.Tensor)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { editTensor(t, dir, name, change) }
	}
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		words []string
	}{
		{"no config", remove("config.json"), []string{"config.json"}},
		{"config truncated", onFile("config.json", half), []string{"config.json"}},
		{"config is not JSON", onFile("config.json", text), []string{"config.json"}},
		{"config of another architecture", onFile("config.json", replace("BertForSequenceClassification", "LlamaForCausalLM")), []string{"config.json", "LlamaForCausalLM", "BertForSequenceClassification"}},
		{"config of another model type", onFile("config.json", replace(`"bert"`, `"llama"`)), []string{"config.json", "llama"}},
		{"config with another activation", onFile("config.json", replace(`"gelu"`, `"swiglu"`)), []string{"config.json", "swiglu"}},
		{"config does not fit the weights", onFile("config.json", replace(`"hidden_size":64`, `"hidden_size":128`)), []string{"model.safetensors", "embeddings", "128", "64"}},
		{"no tokenizer", remove("tokenizer.json"), []string{"tokenizer.json"}},
		{"tokenizer truncated", onFile("tokenizer.json", half), []string{"tokenizer.json"}},
		{"tokenizer is not JSON", onFile("tokenizer.json", text), []string{"tokenizer.json"}},
		{"tokenizer of another kind", onFile("tokenizer.json", replace(`"WordPiece","unk_token"`, `"BPE","unk_token"`)), []string{"tokenizer.json"}},
		{"no weights", remove("model.safetensors"), []string{"model.safetensors"}},
		{"weights truncated", onFile("model.safetensors", half), []string{"model.safetensors"}},
		{"weights are not safetensors", onFile("model.safetensors", text), []string{"model.safetensors"}},
		{"weights are empty", onFile("model.safetensors", func([]byte) []byte { return nil }), []string{"model.safetensors"}},
		{"tensor missing", onTensor("pooler.dense.bias", func(tensor *weightstest.Tensor) { tensor.Name = "pooler.other" }), []string{"model.safetensors", "pooler.dense.bias"}},
		{"tensor of wrong shape", onTensor("pooler.dense.bias", func(tensor *weightstest.Tensor) {
			*tensor = weightstest.F32(tensor.Name, []int{32}, make([]float32, 32))
		}), []string{"model.safetensors", "pooler.dense.bias", "32", "64"}},
		{"tensor with NaN", onTensor("pooler.dense.bias", func(tensor *weightstest.Tensor) {
			binary.LittleEndian.PutUint32(tensor.Data[8:], math.Float32bits(float32(math.NaN())))
		}), []string{"model.safetensors", "pooler.dense.bias", "NaN"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			model := clitest.TinyModel(t)
			test.spoil(t, model)
			dir := t.TempDir()
			input := clitest.WriteFile(t, filepath.Join(dir, "pairs.jsonl"), clitest.PairLines(2))
			output := clitest.WriteFile(t, filepath.Join(dir, "scores.jsonl"), "old")
			words := append([]string{model}, test.words...)
			clitest.CheckFailure(t, mlxrank.Run(t, "", "score", "--model", model, "--input", input, "--output", output), command.ExitFailure, words...)
			clitest.CheckDir(t, dir, map[string]string{"pairs.jsonl": clitest.PairLines(2), "scores.jsonl": "old"})
			clitest.CheckFailure(t, mlxrank.Run(t, "", "rerank", "--model", model, "--query", "q", "d"), command.ExitFailure, words...)
		})
	}
}

func TestBadReference(t *testing.T) {
	hubtest.New(t).Use(t)
	tiny := clitest.TinyModel(t)
	file := clitest.WriteFile(t, filepath.Join(t.TempDir(), "model.bin"), "x")
	for _, test := range []struct {
		name  string
		flags []string
		words []string
	}{
		{"the default, which the hub has not", nil, []string{weights.Default, "no such model on the hub"}},
		{"hub id", []string{"--model", "org/name"}, []string{"org/name", "no such directory", "no such model on the hub", "spelling"}},
		{"id without organisation", []string{"--model", "bert-base-uncased"}, []string{"bert-base-uncased", "no such directory", "ORG/NAME"}},
		{"no such directory", []string{"--model", tiny + "/none"}, []string{tiny + "/none", "no such directory"}},
		{"a file", []string{"--model", file}, []string{file, "not a directory"}},
		{"no adapter directory", []string{"--model", tiny, "--adapter", tiny + "/none"}, []string{tiny + "/none"}},
		{"no adapter in it", []string{"--model", tiny, "--adapter", tiny}, []string{tiny, "adapter_config.json"}},
		{"adapter for another base", []string{"--model", tiny, "--adapter", "../weights/builtin"}, []string{"../weights/builtin", "384", "64"}},
		{"adapter on builtin", []string{"--model", "builtin", "--adapter", "../weights/builtin"}, []string{"builtin", "adapter"}},
		{"longer than the model takes", []string{"--model", tiny, "--max-length", "129"}, []string{"129", "128"}},
		{"no library", []string{"--model", tiny, "--library", tiny + "/none.so"}, []string{tiny + "/none.so", "no such file"}},
		{"not a library", []string{"--model", tiny, "--library", file}, []string{file}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, cmdline := range [][]string{{"rerank", "--query", "q", "d"}, {"score", "--input", "-", "--output", "-"}, {"tokenize", "--input", "-"}} {
				r := mlxrank.Run(t, clitest.PairLines(1), append(cmdline, test.flags...)...)
				clitest.CheckFailure(t, r, command.ExitFailure, test.words...)
			}
		})
	}
}

func TestLibraryFromEnvironment(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none.so")
	t.Setenv("MLXRANK_LIBRARY", none)
	r := mlxrank.Run(t, "", "rerank", "--model", clitest.TinyModel(t), "--query", "q", "d")
	clitest.CheckFailure(t, r, command.ExitFailure, none, "no such file", "make build")
}

// TestDamagedTokenizer checks that every command refuses a damaged tokenizer with the
// same message: rerank loads what model verify and doctor accept.
func TestDamagedTokenizer(t *testing.T) {
	for name, test := range map[string]struct{ file, from, to, want string }{
		"two ids":        {"tokenizer.json", `"ids":[101]`, `"ids":[101,102]`, `post_processor: special_tokens: "[CLS]": 2 ids and 1 tokens`},
		"lone surrogate": {"tokenizer.json", `"prefix":"##"`, `"prefix":"\ud800"`, "tokenizer.json: not valid JSON near byte"},
		"twice":          {"tokenizer.json", `"[CLS]":101`, `"[CLS]":101,"[CLS]":101`, `model: vocab: key "[CLS]" occurs twice`},
		"no room":        {"tokenizer_config.json", `"model_max_length":`, `"model_max_length":2,"was":`, "is 2 tokens, expected at least 3"},
	} {
		model := clitest.TinyModel(t)
		clitest.Edit(t, filepath.Join(model, test.file), func(data []byte) []byte {
			if !bytes.Contains(data, []byte(test.from)) {
				t.Fatalf("%s: no %s in %s", name, test.from, data)
			}
			return bytes.Replace(data, []byte(test.from), []byte(test.to), 1)
		})
		for _, cmdline := range [][]string{
			{"rerank", "--model", model, "--query", "q", "d"}, {"model", "verify", model}, {"model", "show", model}, {"doctor", "--model", model},
		} {
			r := mlxrank.Run(t, "", cmdline...)
			if said := r.Out + r.ErrOut; !strings.Contains(said, test.want) || r.Status != command.ExitFailure && cmdline[1] != "show" {
				t.Errorf("%s: %v: status %d, lacks %q:\n%s", name, cmdline, r.Status, test.want, said)
			}
		}
	}
}
