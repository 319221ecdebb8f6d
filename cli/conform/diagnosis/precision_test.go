package diagnosis

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mlxrank/mlxrank/engine"
)

const encoderDir = "../../../build/models/all-MiniLM-L6-v2"

// quantised opens the builtin model with its encoder's matrices in fewer bits: steps
// above zero, row by row.
func quantised(t *testing.T, steps float32) *engine.Engine {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "encoder")
	if err := os.CopyFS(dir, os.DirFS(encoderDir)); err != nil {
		t.Fatal(err)
	}
	changeRows(t, filepath.Join(dir, "model.safetensors"), func(row []float32) {
		largest := float32(0)
		for _, x := range row {
			largest = max(largest, x, -x)
		}
		for i, x := range row {
			if largest > 0 {
				row[i] = largest / steps * float32(math.Round(float64(x/largest*steps)))
			}
		}
	})
	return open(t, engine.Config{Model: "builtin", BuiltinDir: dir})
}

// changeRows changes the rows of every float32 matrix of a safetensors file.
func changeRows(t *testing.T, path string, change func(row []float32)) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	start := 8 + int(binary.LittleEndian.Uint64(data))
	var header map[string]json.RawMessage
	if err := json.Unmarshal(data[8:start], &header); err != nil {
		t.Fatal(err)
	}
	for _, raw := range header {
		var h struct {
			DType   string
			Shape   []int
			Offsets []int `json:"data_offsets"`
		}
		if json.Unmarshal(raw, &h) != nil || h.DType != "F32" || len(h.Shape) != 2 {
			continue
		}
		row := make([]float32, h.Shape[1])
		for at := start + h.Offsets[0]; at < start+h.Offsets[1]; at += 4 * len(row) {
			for i := range row {
				row[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[at+4*i:]))
			}
			change(row)
			for i := range row {
				binary.LittleEndian.PutUint32(data[at+4*i:], math.Float32bits(row[i]))
			}
		}
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPrecision names lost precision, alone and beside another fault, and does not take
// weights of 4 bits for it.
func TestPrecision(t *testing.T) {
	if testing.Short() || !isLong() {
		t.Skip("slow: MLXRANK_TEST_LONG=1 runs it")
	}
	l := newLocal(open(t, engine.Config{Model: "builtin"}), func(int) {})
	half := open(t, engine.Config{Model: "builtin", DType: engine.BFloat16})
	none := engine.ScoreOptions{}
	for _, test := range []struct {
		name   string
		server fakeServer
		want   []fault
	}{
		{"bfloat16", fakeServer{logits: asIs(half, none)}, []fault{precision}},
		{"bfloat16, type ids zero", fakeServer{logits: withIDs(half, zeroTypes)}, []fault{typeIDsZero, precision}},
		{"bfloat16, left, sigmoid missing", fakeServer{
			logits: asIs(half, engine.ScoreOptions{Truncation: engine.TruncateLeft}),
			scores: scored(func(x float64) float64 { return x }),
		}, []fault{truncation, sigmoidMissing, precision}},
		{"8 bits", fakeServer{logits: asIs(quantised(t, 127), none)}, []fault{precision}},
		{"10 bits, type ids zero", fakeServer{logits: withIDs(quantised(t, 511), zeroTypes)}, []fault{typeIDsZero, precision}},
		{"7 bits", fakeServer{logits: asIs(quantised(t, 63), none)}, []fault{precision}},
		// Fewer bits change builtin's logits by more than half their deviation.
		{"6 bits", fakeServer{logits: asIs(quantised(t, 31), none)}, []fault{unknown}},
		{"4 bits", fakeServer{logits: asIs(quantised(t, 7), none)}, []fault{unknown}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := compare(t, l, &test.server, Auto)
			var want []string
			for _, f := range test.want {
				want = append(want, string(f))
			}
			if !slices.Equal(names(r), want) {
				t.Errorf("%v, want %q", r.Faults, want)
			}
			t.Log(r.Faults)
		})
	}
}
