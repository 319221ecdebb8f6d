package weightstest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// LoRA returns the tensors of a PEFT adapter for the model of spec: updates with
// the given rank for query and value of every layer, and a new classifier.
func LoRA(spec Spec, rank int, seed uint64) []Tensor {
	hidden := size(spec.Config, "hidden_size")
	var tensors []Tensor
	add := func(name string, shape ...int) {
		tensors = append(tensors, F32("base_model.model."+name, shape, Values(name, shape, seed)))
	}
	for i := range size(spec.Config, "num_hidden_layers") {
		for _, part := range []string{"query", "value"} {
			module := fmt.Sprintf("bert.encoder.layer.%d.attention.self.%s", i, part)
			add(module+".lora_A.weight", rank, hidden)
			add(module+".lora_B.weight", hidden, rank)
		}
	}
	add("classifier.weight", labels(spec.Config), hidden)
	add("classifier.bias", labels(spec.Config))
	return tensors
}

// AdapterConfig returns the adapter_config.json of a LoRA adapter with default
// settings.
func AdapterConfig(rank int, alpha float64) map[string]any {
	return map[string]any{
		"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": "some/base", "r": rank, "lora_alpha": alpha,
		"target_modules": []string{"query", "value"}, "modules_to_save": []string{"classifier"}, "bias": "none",
	}
}

// WriteAdapter creates dir with the files of a PEFT adapter.
func WriteAdapter(t testing.TB, dir string, config map[string]any, tensors []Tensor) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	WriteJSON(t, filepath.Join(dir, "adapter_config.json"), config)
	WriteFile(t, filepath.Join(dir, "adapter_model.safetensors"), Encode(tensors))
}
