package engine

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// scripts/goldens makes the files of testdata with PyTorch and Hugging Face's
// tokenizers.

// exactness is the largest allowed difference of float32 logits from PyTorch's, as
// a share of the golden logits' standard deviation. An absolute bound would accept
// wrong logits of a model whose logits are close together.
const exactness = 1e-4

func openGolden(t testing.TB, name string) io.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return z
}

func readGolden(t testing.TB, name string, v any) {
	t.Helper()
	if err := json.NewDecoder(openGolden(t, name)).Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// readGoldenLines reads a file with one JSON value per line.
func readGoldenLines[T any](t testing.TB, name string) []T {
	t.Helper()
	decoder := json.NewDecoder(openGolden(t, name))
	var lines []T
	for {
		var line T
		if err := decoder.Decode(&line); err == io.EOF {
			return lines
		} else if err != nil {
			t.Fatalf("%s: line %d: %v", name, len(lines)+1, err)
		}
		lines = append(lines, line)
	}
}

func deviation(values []float32) float64 {
	mean, square := 0.0, 0.0
	for _, v := range values {
		mean += float64(v) / float64(len(values))
	}
	for _, v := range values {
		square += (float64(v) - mean) * (float64(v) - mean) / float64(len(values))
	}
	return math.Sqrt(square)
}

func worst(got, want []float32) float64 {
	w := 0.0
	for i := range want {
		w = math.Max(w, math.Abs(float64(got[i])-float64(want[i])))
	}
	return w
}

// checkLogits is the check that correct logits must pass and negative controls
// must fail. No logit may be off by more than the tolerance. The ranking must be
// the golden one, except for logits closer to each other than twice the tolerance.
func checkLogits(got, want []float32, tolerance float64) error {
	if len(got) != len(want) || len(want) == 0 {
		return fmt.Errorf("%d logits, want %d", len(got), len(want))
	}
	if w := worst(got, want); !(w <= tolerance) {
		return fmt.Errorf("off by %.3g, tolerance %.3g", w, tolerance)
	}
	for i := range want {
		for j := range want {
			if float64(want[i])-float64(want[j]) > 2*tolerance && got[i] <= got[j] {
				return fmt.Errorf("pairs %d and %d are ranked in the other order", i, j)
			}
		}
	}
	return nil
}
