package weightstest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"
)

// A Directory describes the files of a model of any architecture, as a golden has
// them.
type Directory struct {
	// Files holds the JSON files by path, without the tokenizer's.
	Files map[string]any `json:"files"`
	// Tensors lists the tensors of every safetensors file, by path and in order.
	Tensors map[string][]Slot `json:"tensors"`
	// Seed determines the values of the weights.
	Seed uint64 `json:"seed"`
	// SHA256 is the hash of all safetensors files, one behind the other by path.
	SHA256 string `json:"sha256"`
}

// A Slot is a tensor's name and shape, in JSON [name, shape].
type Slot struct {
	Name  string
	Shape []int
}

// UnmarshalJSON reads [name, shape].
func (s *Slot) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&s.Name, &s.Shape})
}

// Write writes the files to dir, with a tokenizer of as many tokens as the embeddings
// have rows. It fails if the weights do not have the hash.
func (d *Directory) Write(t testing.TB, dir string) {
	t.Helper()
	for name, value := range d.Files {
		d.mkdir(t, dir, name)
		WriteJSON(t, filepath.Join(dir, name), value)
	}
	hash := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(d.Tensors)) {
		d.mkdir(t, dir, name)
		if err := d.writeTensors(filepath.Join(dir, name), name, hash); err != nil {
			t.Fatal(err)
		}
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != d.SHA256 {
		t.Fatalf("weights have SHA-256 %s, PyTorch's %s", sum, d.SHA256)
	}
	config := d.Config()
	WriteJSON(t, filepath.Join(dir, "tokenizer.json"), Tokenizer(size(config, "vocab_size")))
	settings := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
	if types, ok := config["type_vocab_size"]; !ok || types == float64(1) {
		settings["model_input_names"] = []string{"input_ids", "attention_mask"}
	}
	WriteJSON(t, filepath.Join(dir, "tokenizer_config.json"), settings)
}

// Config returns config.json.
func (d *Directory) Config() map[string]any {
	return d.Files["config.json"].(map[string]any)
}

func (d *Directory) mkdir(t testing.TB, dir, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
		t.Fatal(err)
	}
}

// writeTensors writes a safetensors file, tensor by tensor, since a model may be large.
func (d *Directory) writeTensors(to, name string, hash io.Writer) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := io.MultiWriter(f, hash)
	var tensors []Tensor
	for _, s := range d.Tensors[name] {
		tensors = append(tensors, Tensor{Name: s.Name, DType: "F32", Shape: s.Shape})
	}
	bytes := func(t Tensor) int {
		n := 4
		for _, d := range t.Shape {
			n *= d
		}
		return n
	}
	if _, err := out.Write(encodeHeader(tensors, bytes)); err != nil {
		return err
	}
	for _, t := range tensors {
		// Modules have the same names: their folders distinguish them.
		values := Values(path.Join(path.Dir(name), t.Name), t.Shape, d.Seed)
		if _, err := out.Write(F32(t.Name, t.Shape, values).Data); err != nil {
			return err
		}
	}
	return nil
}
