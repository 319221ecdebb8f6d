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

// The files of testdata are made by scripts/goldens with PyTorch and Hugging
// Face's tokenizers.

// exactness is how far float32 logits may be from PyTorch's, as a part of the
// golden logits' standard deviation: an absolute bound would pass anything on
// a model whose logits lie close together.
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

// readGoldenLines reads a file of one JSON value a line.
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

// checkLogits is the one check that right logits must pass and the negative
// controls must fail: none off by more than the tolerance, and the ranking that
// of the golden logits except logits closer to each other than twice that.
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
				return fmt.Errorf("pairs %d and %d change places", i, j)
			}
		}
	}
	return nil
}
