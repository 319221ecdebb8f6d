package doctor

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name, model, dtype string
		off                float64
		ok                 bool
	}{
		{"exact", "builtin", "float32", 0, true},
		{"rounding", "builtin", "float32", 0.0001, true},
		{"wrong", "builtin", "float32", 0.01, false},
		{"half precision", "builtin", "float16", 0.01, true},
		{"wrong in half precision", "builtin", "float16", -1, false},
		{"integers of 8 bits", "builtin", "int8", -0.12, true},
		{"wrong in integers of 8 bits", "builtin", "int8", -1, false},
		{"small weights of 4 bits", "builtin", "int4w", -2.7, true},
		{"wrong with small weights", "builtin", "int4w", -6, false},
		{"not known", "dir", "float32", 5, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			logit := float32(doctorLogit + test.off)
			c := judge(engine.Info{Model: test.model, DType: engine.DType(test.dtype)}, &engine.Result{Logits: []float32{logit}, Scores: []float32{0.5}})
			if c.failed() == test.ok {
				t.Errorf("got %+v", c)
			}
		})
	}
}

// TestDoctorLogit finds doctorPair and doctorLogit among the golden pairs that PyTorch
// scored.
func TestDoctorLogit(t *testing.T) {
	file, err := os.Open("../../engine/testdata/builtin.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	}()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	for decoder := json.NewDecoder(unzipped); ; {
		var golden struct {
			Query, Document string
			Logit           float64
		}
		err := decoder.Decode(&golden)
		if errors.Is(err, io.EOF) {
			t.Fatal("doctorPair is not a golden pair")
		}
		if err != nil {
			t.Fatal(err)
		}
		if golden.Query == doctorPair.Query && golden.Document == doctorPair.Document {
			if golden.Logit != doctorLogit {
				t.Errorf("logit %v, want %v", doctorLogit, golden.Logit)
			}
			return
		}
	}
}
