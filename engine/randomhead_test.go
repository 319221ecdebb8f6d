package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mlxrank/mlxrank/weights"
	"github.com/mlxrank/mlxrank/weights/weightstest"
)

// randomHeadGolden holds PyTorch's logits for the builtin model's encoder without
// the adapter, with a pooler and a classifier of fixed random numbers.
type randomHeadGolden struct {
	Seed   uint64    `json:"seed"`
	Pairs  []int     `json:"indexes"` // indexes into builtin.jsonl.gz
	Logits []float32 `json:"logits"`
}

func TestRandomHeadMatchesPyTorch(t *testing.T) {
	var g randomHeadGolden
	readGolden(t, "randomhead.json.gz", &g)
	all, _ := builtinGoldens(t)
	pairs := make([]Pair, len(g.Pairs))
	for i, at := range g.Pairs {
		pairs[i] = all[at]
	}
	e := openTinyEngine(t, Config{Model: randomHeadDir(t, g.Seed), MaxLength: 512})
	got := scorePairs(t, e, pairs).Logits
	if err := checkLogits(got, g.Logits, exactness*deviation(g.Logits)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pairs: off by %.2g of the deviation %.3g, tolerance %g",
		len(pairs), worst(got, g.Logits)/deviation(g.Logits), deviation(g.Logits), exactness)
	adapted := scorePairs(t, builtin(t), pairs[:8]).Logits
	if err := checkLogits(adapted, g.Logits[:8], exactness*deviation(g.Logits)); err == nil {
		t.Error("control: the adapted model passes the check")
	}
}

// randomHeadDir makes a model directory with the builtin model's encoder and the
// random head.
func randomHeadDir(t *testing.T, seed uint64) string {
	t.Helper()
	from, dir := builtin(t).Info().Dir, t.TempDir()
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var config map[string]any
	if err := json.Unmarshal(read("config.json"), &config); err != nil {
		t.Fatal(err)
	}
	config["architectures"] = []string{"BertForSequenceClassification"}
	config["id2label"] = map[string]string{"0": "LABEL_0"}
	config["label2id"] = map[string]int{"LABEL_0": 0}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write("config.json", data)
	write("tokenizer.json", read("tokenizer.json"))
	write("tokenizer_config.json", read("tokenizer_config.json"))
	write("model.safetensors", weightstest.Encode(withHead(t, seed)))
	return dir
}

func withHead(t *testing.T, seed uint64) []weightstest.Tensor {
	t.Helper()
	model := openModel(t, weights.Builtin)
	base := openEncoder(t, model)
	hidden := model.Config.HiddenSize
	for name, shape := range map[string][]int{
		"pooler.dense.weight": {hidden, hidden},
		"pooler.dense.bias":   {hidden},
		"classifier.weight":   {1, hidden},
		"classifier.bias":     {1},
	} {
		base = append(base, weightstest.F32(name, shape, weightstest.Values(name, shape, seed)))
	}
	return base
}

// openEncoder reads the encoder's tensors from its safetensors file, without the
// adapter. The file has the header's length, the JSON header and the data.
func openEncoder(t *testing.T, model *weights.Model) []weightstest.Tensor {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(model.Dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for i := range 8 {
		size |= int(file[i]) << (8 * i)
	}
	var header map[string]struct {
		Shape   []int  `json:"shape"`
		DType   string `json:"dtype"`
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(file[8:8+size], &header); err != nil {
		t.Fatal(err)
	}
	var out []weightstest.Tensor
	for _, tensor := range model.Tensors {
		if entry, ok := header[tensor.Name]; ok && !strings.HasPrefix(tensor.Name, "pooler.") {
			data := file[8+size+entry.Offsets[0] : 8+size+entry.Offsets[1]]
			out = append(out, weightstest.Tensor{Name: tensor.Name, DType: entry.DType, Shape: entry.Shape, Data: data})
		}
	}
	if len(out) < 100 {
		t.Fatalf("the encoder has only %d tensors", len(out))
	}
	return out
}
