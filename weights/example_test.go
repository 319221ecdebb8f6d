package weights_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/mlxrank/mlxrank/weights"
)

func ExampleOpen() {
	model, err := weights.Open(context.Background(), weights.Builtin, weights.Options{NoDownload: true})
	if errors.Is(err, weights.ErrNotDownloaded) {
		log.Fatal("run mlxrank model pull first")
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(model.Config.Layers, "layers of", model.Config.HiddenSize)
	for _, tensor := range model.Tensors[:2] {
		fmt.Println(tensor.Name, tensor.DType, tensor.Shape)
	}
	if err := model.Close(); err != nil { // invalidates the tensors' data
		log.Fatal(err)
	}
	// Output:
	// 6 layers of 384
	// embeddings.word_embeddings.weight F32 [30522 384]
	// embeddings.position_embeddings.weight F32 [512 384]
}
