package engine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// ModelHash identifies the model by everything in its files that logits depend on: the
// tensors, the adapter, the tokenizer, the prompt and the graph. It is the same on
// another machine and for a copy in another folder. It reads the tensors again, and
// fails if files have changed since Open.
func (e *Engine) ModelHash() (string, error) { return e.modelHash() }

// hashModel returns the function behind ModelHash.
func hashModel(model *weights.Model) func() (string, error) {
	return func() (string, error) {
		contents, err := model.ContentHash()
		if err != nil {
			return "", fmt.Errorf("engine: hash the model: %w", err)
		}
		settings, err := json.Marshal(struct {
			Contents  string
			Graph     mlx.ModelConfig
			Tokenizer weights.Tokenizer
		}{contents, graphConfig(model), model.Tokenizer})
		if err != nil {
			return "", fmt.Errorf("engine: hash the model: %w", err)
		}
		sum := sha256.Sum256(settings)
		return fmt.Sprintf("%x", sum[:16]), nil
	}
}
