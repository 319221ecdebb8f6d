package engine

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/mlxrank/mlxrank/weights/weightstest"
)

var modelExecutions = flag.Int("model-executions", 100, "odd and damaged models to try")

// modelChild is the environment variable that is set in the child process.
const modelChild = "MLXRANK_TEST_MODEL"

// TestDamagedModels opens models of unusual sizes, which must score, and models
// and adapters with damaged files, which must be refused or score. It does so in
// a child process, which a crash may end.
func TestDamagedModels(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: make test runs it")
	}
	if os.Getenv(modelChild) == "" {
		child := exec.Command(os.Args[0], "-test.run", "^TestDamagedModels$", "-test.v", "-model-executions", strconv.Itoa(*modelExecutions))
		child.Env = append(os.Environ(), modelChild+"=1")
		out, err := child.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out[max(0, len(out)-4000):])
		}
		return
	}
	counts := map[string]int{}
	for i := range *modelExecutions {
		r := rand.New(rand.NewPCG(uint64(i), 30))
		t.Logf("model %d", i) // the last one is printed when the process crashes
		config := oddModel(r)
		spec := weightstest.Spec{Config: config, Seed: uint64(i)}
		dir, adapter := t.TempDir(), t.TempDir()
		weightstest.Write(t, dir, spec)
		weightstest.WriteAdapter(t, adapter, weightstest.AdapterConfig(2, 4), weightstest.LoRA(spec, 2, uint64(i)))
		damage := "none"
		if i%4 != 0 {
			damage = damageModel(t, r, dir, adapter)
		}
		err := scoreModel(dir, adapter)
		if err != nil && damage == "none" {
			t.Errorf("model %d, %v: %v", i, config, err)
		}
		outcome := "scores"
		if err != nil {
			outcome = "is refused"
		}
		counts[damage+" "+outcome]++
	}
	t.Logf("%v", counts)
}

// oddModel makes a config with unusual sizes.
func oddModel(r *rand.Rand) map[string]any {
	pick := func(list ...int) int { return list[r.IntN(len(list))] }
	heads := pick(1, 2, 3, 5, 16)
	config := weightstest.Tiny(heads*pick(1, 2, 7, 16, 33, 64), heads, pick(1, 2))
	config["vocab_size"] = pick(300, 301, 1000)
	config["intermediate_size"] = pick(1, 3, 17, 64, 257)
	config["max_position_embeddings"] = pick(3, 4, 5, 128, 513)
	config["type_vocab_size"] = pick(2, 3, 1024)
	labels := map[string]any{}
	for i := range pick(1, 1, 2, 5) {
		labels[strconv.Itoa(i)] = fmt.Sprint("label", i)
	}
	config["id2label"] = labels
	config["layer_norm_eps"] = []float64{1e-12, 1e-5, 1}[r.IntN(3)]
	return config
}

// damageModel damages one file of a model or its adapter and returns its name.
func damageModel(t *testing.T, r *rand.Rand, dir, adapter string) string {
	t.Helper()
	path := []string{
		filepath.Join(dir, "config.json"), filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "model.safetensors"),
		filepath.Join(adapter, "adapter_config.json"), filepath.Join(adapter, "adapter_model.safetensors"),
	}[r.IntN(5)]
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(path)
	if filepath.Ext(name) == ".json" && r.IntN(2) == 0 {
		weightstest.WriteFile(t, path, otherNumber(t, r, data))
		return name
	}
	weightstest.WriteFile(t, path, damageBytes(r, data))
	return name
}

// damageBytes changes the length, some of the first bytes (the header), or some
// of all bytes.
func damageBytes(r *rand.Rand, data []byte) []byte {
	switch r.IntN(5) {
	case 0:
		return data[:r.IntN(len(data))]
	case 1:
		return append(data, make([]byte, 1+r.IntN(9))...)
	}
	near := len(data)
	if r.IntN(4) != 0 {
		near = min(near, 2000)
	}
	for range 1 + r.IntN(4) {
		i := r.IntN(near)
		if data[i] >= '0' && data[i] <= '9' && r.IntN(2) == 0 {
			data[i] = '0' + byte(r.IntN(10))
		} else {
			data[i] = byte(r.IntN(256))
		}
	}
	return data
}

// otherNumber gives a field of a JSON object another value.
func otherNumber(t *testing.T, r *rand.Rand, data []byte) []byte {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	names := []string{"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
		"type_vocab_size", "layer_norm_eps", "num_labels", "r", "lora_alpha"}
	values := []any{0, 1, 2, 3, 64, 1 << 14, 1 << 16, 1 << 22, math.MaxInt32, int64(1) << 32, -1, 1e300, 0.5, nil, "1", true}
	fields[names[r.IntN(len(names))]] = values[r.IntN(len(values))]
	out, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// scoreModel opens a model and scores pairs. The model may be refused, but a
// score must not be NaN or infinite.
func scoreModel(dir, adapter string) error {
	e, err := Open(context.Background(), Config{Model: dir, Adapter: adapter, Device: Device(testDevice()), DType: Float32, Label: "0"})
	if err != nil {
		return err
	}
	result, err := e.Score(context.Background(), []Pair{{"what is new", "a program of the system"}, {"", ""}, {"x", "y z"}})
	if cerr := e.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	for _, logit := range result.Logits {
		if math.IsNaN(float64(logit)) || math.IsInf(float64(logit), 0) {
			panic(fmt.Sprintf("logit %v", logit))
		}
	}
	return nil
}
