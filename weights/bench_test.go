package weights

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// BenchmarkOpenBuiltin times opening the built-in model, and each step of it.
// cpu-ms is the CPU time of all threads in the best run; on a shared machine it
// is more meaningful than the wall time.
func BenchmarkOpenBuiltin(b *testing.B) {
	b.Run("whole", func(b *testing.B) {
		best(b, func() {
			m, err := Open(b.Context(), Builtin, Options{})
			if err != nil {
				b.Fatal(err)
			}
			closeModel(b, m)
		})
	})
	dir, err := findBuiltin("")
	if err != nil {
		b.Fatal(err)
	}
	b.Run("tokenizer", func(b *testing.B) {
		best(b, func() {
			m := &Model{Ref: Builtin, Dir: dir}
			if err := m.loadTokenizer(modelConfig{Config: Config{VocabSize: 30522, MaxPositions: 512, TypeVocabSize: 2}}, sentenceSettings{}); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("map", func(b *testing.B) {
		best(b, func() {
			m, _ := mapEntries(b, dir)
			closeModel(b, m)
		})
	})
	b.Run("map+finite", func(b *testing.B) {
		best(b, func() {
			m, entries := mapEntries(b, dir)
			if err := checkFinite(entries); err != nil {
				b.Fatal(err)
			}
			closeModel(b, m)
		})
	})
	b.Run("merge", func(b *testing.B) {
		m, entries := mapEntries(b, dir)
		best(b, func() {
			ad, err := (&Model{Adapter: Builtin}).loadAdapter(findArchitecture("bert"))
			if err != nil {
				b.Fatal(err)
			}
			_, mem, err := ad.merge(entries)
			if err != nil {
				b.Fatal(err)
			}
			if err := mem.close(); err != nil {
				b.Fatal(err)
			}
		})
		closeModel(b, m)
	})
}

// mapEntries maps the weights in dir and returns the float tensors.
func mapEntries(b *testing.B, dir string) (*Model, []entry) {
	m := &Model{}
	file, err := m.mapFile(filepath.Join(dir, weightsFile))
	if err != nil {
		b.Fatal(err)
	}
	var entries []entry
	for _, t := range file.tensors {
		if t.DType == F32 {
			entries = append(entries, entry{Tensor: t})
		}
	}
	return m, entries
}

// best runs f and reports its best times.
func best(b *testing.B, f func()) {
	wall, cpu := time.Hour, time.Hour
	for b.Loop() {
		start, used := time.Now(), cpuTime(b)
		f()
		wall, cpu = min(wall, time.Since(start)), min(cpu, cpuTime(b)-used)
	}
	b.ReportMetric(float64(wall.Microseconds())/1e3, "wall-ms")
	b.ReportMetric(float64(cpu.Microseconds())/1e3, "cpu-ms")
}

func cpuTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func closeModel(t testing.TB, m *Model) {
	t.Helper()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}
