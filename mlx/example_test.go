package mlx_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/mlxrank/mlxrank/mlx"
	"github.com/mlxrank/mlxrank/weights"
)

// Example copies a model from package weights to a session and computes logits of
// token ids. Two batches may be in flight: MLX computes the second one while the
// caller collects the first.
func Example() {
	model, err := weights.Open(context.Background(), weights.Builtin, weights.Options{})
	if err != nil {
		log.Fatal(err)
	}
	session, err := open(model)
	if err = errors.Join(err, model.Close()); err != nil {
		log.Fatal(err)
	}
	ticket, err := session.Submit(mlx.Batch{
		// [CLS] edit photos [SEP] an image editor . [SEP], then with "a mail reader ."
		IDs:     []int32{101, 10086, 7760, 102, 2019, 3746, 3559, 1012, 102, 101, 10086, 7760, 102, 1037, 5653, 8068, 1012, 102},
		TypeIDs: []int32{0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1},
		Lengths: []int32{9, 9},
		// One graph computes both pairs.
		Microbatches: []int32{2},
	})
	if err != nil {
		log.Fatal(err)
	}
	logits := make([]float32, 2)
	stats, err := session.Collect(ticket, logits)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%.2f\n", logits)
	fmt.Println("tokens:", stats.Tokens)
	if err := session.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// [-0.35 -2.29]
	// tokens: 18
}

// open copies a model to the CPU.
func open(model *weights.Model) (*mlx.Session, error) {
	library, err := mlx.Load("") // searches for it
	if err != nil {
		return nil, err
	}
	c := model.Config
	config := mlx.ModelConfig{
		VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, Layers: c.Layers, Heads: c.Heads, IntermediateSize: c.IntermediateSize,
		MaxPositions: c.MaxPositions, TypeVocabSize: c.TypeVocabSize, Labels: c.Labels,
		LayerNormEps: c.LayerNormEps, Activation: mlx.Activation(c.Activation),
		EmbeddingSize: c.EmbeddingSize, Pooling: mlx.Pooling(c.Pooling),
	}
	for _, s := range c.Head {
		config.Head = append(config.Head, mlx.HeadStep{Name: s.Name, Out: s.Out, Activation: mlx.Activation(s.Activation)})
	}
	dtypes := map[weights.DType]mlx.DType{weights.F32: mlx.Float32, weights.F16: mlx.Float16, weights.BF16: mlx.BFloat16}
	tensors := make([]mlx.Tensor, len(model.Tensors))
	for i, t := range model.Tensors {
		tensors[i] = mlx.Tensor{Name: t.Name, DType: dtypes[t.DType], Shape: t.Shape, Data: t.Data}
	}
	return library.Open(config, tensors, mlx.Options{Device: mlx.CPU})
}
